"""How Sphinx builds the site. Nothing is fetched from the network."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import django  # noqa: E402
from django.conf import settings  # noqa: E402

from koan_django import __version__  # noqa: E402

settings.configure(
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")),
        "django_celery_beat",
        *(f"koan_django.{n}" for n in ("core", "secrets", "storage", "messaging", "inbox", "media", "scheduling")),
    ],
)
django.setup()

project = "koan-django"
author = copyright = "the koan-django contributors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "entries", "faces", "jobs"]
myst_enable_extensions = ["colon_fence", "deflist", "tasklist"]
myst_heading_anchors = 3
exclude_patterns = ["_ext"]
# The types in signatures are not looked up: most are of Python and Django, whose sites are not fetched.
nitpick_ignore_regex = [("py:(class|obj|data)", r".*")]
python_maximum_signature_line_length = 90
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = f"koan-django {version}"
html_static_path = ["_static"]
html_css_files = ["koan.css"]
