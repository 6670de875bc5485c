"""The WSGI application of the inbox service: ``gunicorn --threads 8 sampleproject.inboxservice.wsgi``.

Where the settings announce the service, the process that serves it does so: both end together.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sampleproject.inboxservice.settings")

from django.core.wsgi import get_wsgi_application

from koan_django.inbox.discovery import announcing

application = get_wsgi_application()
announcing.start()
