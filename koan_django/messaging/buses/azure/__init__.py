"""Azure Service Bus by kombu's transport: a queue for each group, messages under a lock until they are settled."""

from django.core.exceptions import ImproperlyConfigured

try:
    import azure.servicebus as _sdk  # noqa: F401
except ImportError as error:
    raise ImproperlyConfigured("azureservicebus:// needs Azure's SDK: pip install 'koan-django[azure]'") from error

from .bus import AzureBus

__all__ = ["AzureBus"]
