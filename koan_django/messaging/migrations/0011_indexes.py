from django.db import migrations, models


class Migration(migrations.Migration):
    """A text that is indexed by its field has a second index on PostgreSQL, for patterns that nobody searches by.

    The new indexes come first, so that nothing is without one in between. That of what waits in the
    outbox is in the order in which relays read it; those that were put off have one of their own.
    """

    dependencies = [
        ("koan_messaging", "0010_outbox_parked"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                fields=["bus", "id", "available_at"],
                condition=models.Q(("state", "pending")),
                name="koan_msg_outbox_next",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                fields=["bus", "lane", "id"],
                condition=models.Q(("state", "pending"), ("tries__gt", 0)),
                name="koan_msg_outbox_again",
            ),
        ),
        migrations.RemoveIndex(model_name="outboxmessage", name="koan_msg_outbox_pending"),
        migrations.AddIndex(
            model_name="messageevent",
            index=models.Index(fields=["message_id"], name="koan_msg_event_message"),
        ),
        migrations.AddIndex(
            model_name="messageevent",
            index=models.Index(fields=["correlation_id"], name="koan_msg_event_correlation"),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(fields=["message_id"], name="koan_msg_outbox_message"),
        ),
        migrations.AddIndex(
            model_name="queueddelivery",
            index=models.Index(fields=["message_id"], name="koan_msg_delivery_message"),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(fields=["message_id"], name="koan_msg_dead_message"),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(fields=["fingerprint"], name="koan_msg_dead_fingerprint"),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(fields=["correlation_id"], name="koan_msg_dead_correlation"),
        ),
        migrations.AlterField(
            model_name="messageevent",
            name="message_id",
            field=models.CharField(max_length=128, verbose_name="message id"),
        ),
        migrations.AlterField(
            model_name="messageevent",
            name="correlation_id",
            field=models.CharField(max_length=128, verbose_name="correlation id"),
        ),
        migrations.AlterField(
            model_name="outboxmessage",
            name="message_id",
            field=models.CharField(max_length=128, verbose_name="message id"),
        ),
        migrations.AlterField(
            model_name="queueddelivery",
            name="message_id",
            field=models.CharField(max_length=128, verbose_name="message id"),
        ),
        migrations.AlterField(
            model_name="deadletter",
            name="message_id",
            field=models.CharField(max_length=128, verbose_name="message id"),
        ),
        migrations.AlterField(
            model_name="deadletter",
            name="fingerprint",
            field=models.CharField(max_length=32, verbose_name="fingerprint"),
        ),
        migrations.AlterField(
            model_name="deadletter",
            name="correlation_id",
            field=models.CharField(max_length=128, verbose_name="correlation id"),
        ),
    ]
