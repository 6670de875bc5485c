from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from pytest_django.live_server_helper import LiveServer


def test_a_page_runs_its_script(page: Page) -> None:
    page.set_content("<p id=greeting></p><script>greeting.textContent = 'hello ' + 6 * 7</script>")
    assert page.locator("#greeting").inner_text() == "hello 42"


@pytest.mark.django_db(transaction=True)
def test_a_page_of_the_project_opens_beside_the_orm(page: Page, live_server: LiveServer) -> None:
    User.objects.create_superuser("ada", password="engine")
    page.goto(f"{live_server.url}/admin/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("engine")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Site administration").wait_for()


def test_an_expected_error_can_be_taken_out(page: Page, browser_errors: list[str]) -> None:
    page.evaluate("console.error('on purpose')")
    assert "on purpose" in browser_errors.pop()


def test_async_code_runs_once_the_browser_is_closed() -> None:
    assert asyncio.run(asyncio.sleep(0, "ran")) == "ran"
