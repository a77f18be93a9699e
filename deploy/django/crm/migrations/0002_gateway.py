from pathlib import Path

from django.db import migrations

here = Path(__file__).parent


class Migration(migrations.Migration):
    dependencies = [("crm", "0001_initial"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [
        migrations.RunSQL((here / "gateway_migrate.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((here / "gateway_attach.sql").read_text(), migrations.RunSQL.noop),
    ]
