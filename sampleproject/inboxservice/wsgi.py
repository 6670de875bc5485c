"""The WSGI application of the inbox service: ``gunicorn --threads 8 sampleproject.inboxservice.wsgi``."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sampleproject.inboxservice.settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
