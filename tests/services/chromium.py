"""A browser for Playwright to drive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .requirement import Requirement, first

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_ARGUMENTS = ("--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update")
#: Where Playwright keeps a browser that it downloaded.
_DOWNLOADED = (
    ".cache/ms-playwright/chromium-*/chrome-linux*/chrome",
    "Library/Caches/ms-playwright/chromium-*/*/*.app",
)


class Chromium(Requirement):
    """The browser of this machine. It is started anew for each test that asks: that takes a second."""

    title = "Chromium"
    name = "chromium"
    packages = ("chromium",)
    variable = "KOAN_TEST_CHROMIUM"

    @classmethod
    def binary(cls) -> Path | None:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        places = ("/usr/bin/chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
        downloaded = sorted(path for pattern in _DOWNLOADED for path in Path.home().glob(pattern))
        return first(os.environ.get(cls.variable), *names, *places, *reversed(downloaded))

    @contextmanager
    def browser(self) -> Iterator[Browser]:
        """Start the browser without a window and yield it.

        Playwright keeps an event loop running in this thread until the browser is closed, which Django takes for
        asynchronous code: set ``DJANGO_ALLOW_ASYNC_UNSAFE`` where the ORM is used meanwhile.
        """
        from playwright.sync_api import sync_playwright

        sandbox = () if os.getuid() else ("--no-sandbox",)  # the sandbox refuses to run as root
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=self.binary(), args=[*_ARGUMENTS, *sandbox])
            try:
                yield browser
            finally:
                browser.close()
