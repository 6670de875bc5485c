from django.db import migrations, models


class Migration(migrations.Migration):
    """An index of what was set aside, which is little: to count it is to read nothing else. MySQL goes without."""

    dependencies = [
        ("koan_messaging", "0009_outbox_lanes"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                fields=["bus", "id"], condition=models.Q(("state", "parked")), name="koan_msg_outbox_parked"
            ),
        ),
    ]
