"""``override_koan``: ``override_settings`` for a part of ``KOAN``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.test import SimpleTestCase, override_settings

from koan_django.core import conf
from koan_django.core.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


class override_koan(override_settings):  # noqa: N801  # named like Django's own
    """Merge sections over the current ``KOAN`` for a block, a function or a test class.

    ``override_koan(MESSAGING={"DEFAULT_GROUP": "tests"})`` leaves every other option as it is, also when blocks nest.
    Raises ``ValueError`` for a section that does not exist.
    """

    def __init__(self, **sections: Mapping[str, Any]) -> None:
        for name in sections:
            if name not in conf.SECTIONS:
                raise ValueError(f"{name!r} is not a section of KOAN{did_you_mean(name, conf.SECTIONS)}")
        self._sections = sections
        super().__init__()

    def enable(self) -> None:
        """Merge over what is in force now, not over what was when the decorator ran."""
        self.options = {"KOAN": conf.merge(conf.current(), self._sections)}
        super().enable()

    def decorate_class(self, cls: type) -> type:
        """Enter for the whole class: Django would keep the merged dict of decoration time."""
        if not issubclass(cls, SimpleTestCase):
            raise ValueError("override_koan decorates only Django's test classes; use it as a context manager here")
        original = cls.setUpClass.__func__  # type: ignore[attr-defined]  # a bound classmethod has it

        def set_up_class(inner: type[SimpleTestCase]) -> None:
            inner.enterClassContext(self)
            original(inner)

        cls.setUpClass = classmethod(set_up_class)  # type: ignore[method-assign,assignment]  # wrapped on purpose
        return cls
