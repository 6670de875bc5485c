"""The WSGI application of the inbox service: ``gunicorn --threads 8 sampleproject.inboxservice.wsgi``.

Where the settings announce the service, the process that serves it does so: both end together. So do the tables that
the apps ask about a process.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sampleproject.inboxservice.settings")
os.environ["INBOX_TABLES"] = f"{tempfile.mkdtemp(prefix='koan-inbox-')}/tables.sqlite3"

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

from koan_django.inbox.discovery import announcing

atexit.register(shutil.rmtree, Path(os.environ["INBOX_TABLES"]).parent, ignore_errors=True)
application = get_wsgi_application()
call_command("migrate", verbosity=0)
announcing.start()
