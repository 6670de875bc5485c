"""What each app stands on. An app that is not named here has no isolation test, and the run says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The modules that come with a third-party package: none may be there unless a row asks for it.
MODULES = {
    "msgspec": {"msgspec"},
    "pillow": {"PIL"},
    "celery": {"celery", "kombu", "amqp", "billiard", "vine"},
    "beat": {"django_celery_beat", "cron_descriptor", "timezone_field", "crontab"},
    "storages": {"storages", "boto3", "botocore", "azure", "google"},
    "others": {"hvac", "cryptography", "redis", "django_redis", "psycopg", "hypothesis", "pytest", "playwright"},
}


@dataclass(frozen=True)
class Row:
    """What an app requires: an extra of the distribution, other apps, and the packages that the extra brings."""

    extra: str = ""
    requires: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def absent(self) -> set[str]:
        """Return the modules that must be out of reach."""
        return set().union(*(modules for name, modules in MODULES.items() if name not in self.packages))


ROWS = {
    "core": Row(),
    "secrets": Row(),
    "storage": Row(),
    "messaging": Row("messaging", packages=("msgspec", "celery")),
    "inbox": Row(),
    "media": Row("media", requires=("storage",), packages=("pillow",)),
    "scheduling": Row("scheduling", packages=("celery", "beat")),
}


def nameless(root: Path) -> set[str]:
    """Return the apps in the tree at ``root`` that have no row."""
    return {path.parent.name for path in (root / "koan_django").glob("*/apps.py")} - set(ROWS)
