from django.db import migrations, models


class Migration(migrations.Migration):
    """A text that is indexed by its field has a second index on PostgreSQL, for patterns that nobody searches by.

    The new ones come first, so that nothing is without one in between. By its key alone no entry is looked up.
    """

    dependencies = [
        ("koan_inbox", "0002_correlation"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="inboxentry",
            constraint=models.UniqueConstraint(fields=("fingerprint",), name="koan_inbox_fingerprint"),
        ),
        migrations.AddIndex(
            model_name="inboxentry",
            index=models.Index(fields=["correlation_id"], name="koan_inbox_correlation"),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="fingerprint",
            field=models.CharField(editable=False, max_length=64, verbose_name="fingerprint"),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="correlation_id",
            field=models.CharField(blank=True, max_length=128, verbose_name="correlation id"),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="key",
            field=models.CharField(max_length=255, verbose_name="key"),
        ),
    ]
