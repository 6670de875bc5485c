from django.db import migrations, models


class Migration(migrations.Migration):
    """What a row holds that nobody has leased is a default of the database: what inserts it need not name it."""

    dependencies = [
        ('koan_scheduling', '0003_correlation'),
    ]

    operations = [
        migrations.AlterField(
            model_name='taskrun',
            name='lease_owner',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=120),
        ),
        migrations.AlterField(
            model_name='taskrun',
            name='lease_token',
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
