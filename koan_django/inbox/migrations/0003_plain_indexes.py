import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    """A text that is indexed by its field has a second index on PostgreSQL, for patterns that nobody searches by.

    The new ones come first, so that nothing is without one in between. By its key alone no entry is looked up.
    What most entries hold is a default of the database, so that a claim need not name it.
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
        migrations.AlterField(
            model_name="inboxentry",
            name="claim",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=32),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="state",
            field=models.CharField(
                choices=[("processing", "processing"), ("processed", "processed")],
                db_default="processed",
                default="processed",
                max_length=10,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="attempts",
            field=models.PositiveIntegerField(db_default=1, default=1, verbose_name="attempts"),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="duplicates",
            field=models.PositiveIntegerField(db_default=0, default=0, verbose_name="duplicates suppressed"),
        ),
        migrations.AlterField(
            model_name="inboxentry",
            name="first_seen_at",
            field=models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="first seen at"
            ),
        ),
    ]
