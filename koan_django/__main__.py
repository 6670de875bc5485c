"""``python -m koan_django koan_adopt``: the command in a project that has installed nothing of us yet."""

import os
import sys

COMMAND = "koan_adopt"


def main(argv: list[str]) -> None:
    """Run the command as ``manage.py`` does, with the settings of the project."""
    import django
    from django.core.management import handle_default_options
    from django.core.management.base import CommandParser

    if argv[1:2] != [COMMAND]:
        sys.exit(f"usage: python -m koan_django {COMMAND} --settings MODULE [options]")
    sys.path.insert(0, os.getcwd())
    parser = CommandParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    handle_default_options(parser.parse_known_args(argv[2:])[0])
    django.setup()

    from koan_django.core.management.commands.koan_adopt import Command

    Command().run_from_argv(["python -m koan_django", *argv[1:]])


if __name__ == "__main__":
    main(sys.argv)
