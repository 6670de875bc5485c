from django.db import migrations, models


class Migration(migrations.Migration):
    """A state of messages that their senders publish themselves, and an index of those: there are few at a time."""

    dependencies = [
        ("koan_messaging", "0011_indexes"),
    ]

    operations = [
        migrations.AlterField(
            model_name="outboxmessage",
            name="state",
            field=models.CharField(
                choices=[("pending", "pending"), ("handed", "handed over"), ("parked", "parked")],
                default="pending",
                max_length=8,
                verbose_name="state",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                fields=["bus", "created_at"], condition=models.Q(("state", "handed")), name="koan_msg_outbox_handed"
            ),
        ),
    ]
