"""System checks of secrets. None asks a provider for a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

from koan_django.core import conf, defaults
from koan_django.core.checks import section_check
from koan_django.core.suggestions import did_you_mean
from koan_django.core.templating import references

from .building import build, load
from .conf import options
from .exceptions import SecretError, SecretReferenceError
from .namespace import Templates
from .offline import is_offline
from .references import parse
from .resolver import KIND
from .texts import koan_texts, settings_texts
from .types import SecretText

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conf import ProviderOptions

_PAGES = "koan_django.core.error_pages"


def check_providers(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E002: a provider cannot be built as it is declared. W001: something stands in the way of one in the chain."""
    try:
        known = options().known()
        chain = options().chain
    except ImproperlyConfigured:
        return []  # E001 reports it
    found: list[CheckMessage] = []
    for alias, declared in known.items():
        try:
            load(alias, declared)
        except SecretError as error:
            found.append(
                Error(str(error), hint="See the provider's documentation for its OPTIONS.", id="koan_secrets.E002")
            )
    return found or [_problem(alias, text) for alias in chain for text in _problems(alias, known[alias])]


def check_references(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E004: a reference in ``KOAN`` cannot be read, or names a provider that there is not."""
    try:
        known = options().known()
    except ImproperlyConfigured:
        return []
    found: list[CheckMessage] = []
    for path, text in koan_texts():
        for body in (body for kind, body in references(text) if kind == KIND):
            try:
                alias = parse(body).provider
            except SecretReferenceError as error:
                found.append(Error(f"{path}: {error}", hint=error.fix, id="koan_secrets.E004"))
                continue
            if alias and alias not in known:
                why = f"{path} refers to the provider {alias!r} of secrets, which is not declared"
                hint = f"Declare it in KOAN['SECRETS']['PROVIDERS'].{did_you_mean(alias, known)}"
                found.append(Error(why, hint=hint, id="koan_secrets.E004"))
    return found


def check_leftovers(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W002: a reference stands unresolved in a setting that nobody resolves."""
    return [
        Warning(
            f"{path} holds a reference to a secret that is not resolved",
            hint="End the settings module with secrets.resolve_settings(globals()); a value that was parsed before, "
            "or stands in an object, needs secrets.resolve(...) on its own line.",
            id="koan_secrets.W002",
        )
        for path in _leftovers()
    ]


def check_deployment(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E003: settings hold placeholders. W003: a provider is for development. W004: error pages show secrets.

    W005: nobody has chosen where secrets come from.
    """
    try:
        chain = options().chain
    except ImproperlyConfigured:
        return []
    found: list[CheckMessage] = [*_placeholders(), *_development(chain)]
    if not settings.DEFAULT_EXCEPTION_REPORTER_FILTER.startswith(_PAGES):
        found.append(
            Warning(
                "error pages and error mails may show the values of secrets",
                hint=f"Set DEFAULT_EXCEPTION_REPORTER = '{_PAGES}.RedactingReporter' and "
                f"DEFAULT_EXCEPTION_REPORTER_FILTER = '{_PAGES}.RedactingReporterFilter'.",
                id="koan_secrets.W004",
            )
        )
    if "CHAIN" not in conf.effective(conf.current()).get("SECRETS", {}):
        found += defaults.in_force(
            "secrets come from environment variables because nothing else is said",
            instead="Set KOAN['SECRETS']['CHAIN'], to ['env'] if that is meant.",
            id="koan_secrets.W005",
        )
    return found


def register_all() -> None:
    """Register the checks of secrets."""
    register(section_check(options, "koan_secrets.E001"))
    register(check_providers)
    register(check_references)
    register(check_leftovers)
    register(check_deployment, Tags.security, deploy=True)


def _problems(alias: str, declared: ProviderOptions) -> list[str]:
    """What stands in its way, unless its options hold references: to resolve them could open a connection."""
    if Templates({"OPTIONS": dict(declared.options)}).texts:
        return []
    try:
        return list(build(alias, declared, dict).problems())
    except SecretError as error:
        return [str(error)]


def _problem(alias: str, text: str) -> CheckMessage:
    return Warning(
        f"the provider {alias!r} of secrets cannot answer: {text}",
        hint="Mend it, or take the provider out of KOAN['SECRETS']['CHAIN'].",
        id="koan_secrets.W001",
    )


def _placeholders() -> Iterator[CheckMessage]:
    missing = dict.fromkeys(
        name for _path, text in settings_texts() if isinstance(text, SecretText) for name in text.missing
    )
    if missing or is_offline():
        listed = ", ".join(missing) or "none so far"
        yield Error(
            f"KOAN_SECRETS=offline stands in for secrets with placeholders: {listed}",
            hint="Unset KOAN_SECRETS where the project serves.",
            id="koan_secrets.E003",
        )


def _development(chain: tuple[str, ...]) -> Iterator[CheckMessage]:
    for alias in chain:
        try:
            provider = load(alias, options().known()[alias])
        except SecretError:
            continue  # E002 reports it
        if provider.is_development_only:
            yield Warning(
                f"the provider {alias!r} of secrets is for development only",
                hint="Take it out of KOAN['SECRETS']['CHAIN'].",
                id="koan_secrets.W003",
            )


def _leftovers() -> list[str]:
    found = (
        path
        for path, text in settings_texts()
        if not isinstance(text, SecretText) and any(kind == KIND for kind, _body in references(text))
    )
    return list(dict.fromkeys(found))
