"""Runs in a project that took the diff: ``python applied.py SETTINGS`` checks, migrates, and asks again."""

import os
import sys

sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = sys.argv[1]

import django
from django.core.management import call_command

django.setup()
call_command("makemigrations", verbosity=0)
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING", databases=["default"])
call_command("koan_adopt")  # ends with another code when there is something left
