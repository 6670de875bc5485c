"""The Django project in which both sides run."""
