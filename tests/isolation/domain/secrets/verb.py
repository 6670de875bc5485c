"""A secret comes from the environment, and shows itself to nobody by accident."""

import os

from koan_django import secrets


def main() -> None:
    os.environ["APP_DB__PASSWORD"] = "p@ss-word"
    value = secrets.get("app/db#password")
    assert value.reveal() == "p@ss-word"
    assert "p@ss" not in repr(value)
    assert secrets.resolve("amqp://shop:{{secret:app/db#password}}@host/") == "amqp://shop:p%40ss-word@host/"
