"""A walk through the gallery and its admin, as a person takes it. Any console error on the way fails the test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.acceptance.pictures import Scene, draw

if TYPE_CHECKING:
    from .conftest import Gallery

# One demo serves the whole walk, so it stays in one process.
pytestmark = [pytest.mark.acceptance, pytest.mark.services("chromium"), pytest.mark.xdist_group("walk")]

SETTLED = re.compile("published|archived")
#: Milliseconds. A photograph takes a second or two; an archive run comes every five.
SOON, LATER = 30_000, 60_000


def wall(page: Page, gallery: Gallery) -> None:
    """Open the wall, and mark the document: a reload would lose the mark."""
    page.goto(gallery.url)
    page.evaluate("window.walk = 'the same document'")


def tile(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=name, exact=True))


def step(page: Page, title: str) -> Locator:
    """The line of the trail with exactly this title."""
    return page.locator(".step").filter(has=page.get_by_text(title, exact=True))


def is_same_document(page: Page) -> bool:
    return page.evaluate("window.walk") == "the same document"


def no_sideways_scroll(page: Page) -> bool:
    wide: bool = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    return wide


def test_an_upload_is_published_and_opens_to_its_trail(page: Page, gallery: Gallery, tmp_path: Path) -> None:
    """Held upright, taken in Oviedo: the page tells both, the published picture neither."""
    path = draw(Scene("cafe [1] ñandú.jpg", 6, 43.3623, -5.8450, 9), tmp_path, 1, width=1600, height=1200)
    wall(page, gallery)
    page.get_by_label("Choose photos").set_input_files(path)
    mine = tile(page, path.name)
    expect(mine).to_have_attribute("data-state", SETTLED, timeout=SOON)
    expect(mine.locator("img")).to_have_js_property("complete", True)
    expect(mine).to_have_attribute("data-state", "archived", timeout=SOON)
    assert is_same_document(page)

    page.get_by_role("link", name=path.name).click()
    for title in ("Uploaded", "photo.uploaded sent", "thumbnail ready", "card ready", "web ready", "Published"):
        expect(step(page, title)).to_have_count(1)
    expect(step(page, "photo.uploaded handled by gallery.derive")).to_contain_text(re.compile(r"worker \d+.*took \d"))
    expect(step(page, "Original moved to cold")).to_have_count(1)
    facts = page.get_by_role("table")
    expect(facts.get_by_role("row", name="Orientation")).to_contain_text("6: on its left sideupright")
    expect(facts.get_by_role("row", name="Position")).to_contain_text("for staff onlygone")
    expect(page.locator("#before")).to_have_js_property("naturalHeight", 640, timeout=SOON)
    expect(page.locator("#after")).to_have_js_property("naturalWidth", 1600)

    addresses = page.locator(".step a").evaluate_all("all => all.map(a => a.href)")
    step(page, "Uploaded").get_by_role("link").click()
    gallery.log_in(page)
    expect(page.locator("#content")).to_contain_text(path.name)
    assert {address: page.request.get(address).status for address in addresses} == dict.fromkeys(addresses, 200)

    page.locator(".field-trail a").click()  # the same story as the admin knows it, with the request that began it
    for title in ("POST /upload", "photo.uploaded by gallery.derive", "claimed for gallery.derive"):
        expect(page.locator(".koan-step").filter(has_text=title).first).to_be_visible()
    expect(page.locator(".koan-kind-media")).to_have_count(3)
    page.set_viewport_size({"width": 390, "height": 844})
    assert no_sideways_scroll(page)


def test_a_text_that_is_dropped_as_a_picture_is_refused_with_its_reason(page: Page, gallery: Gallery) -> None:
    wall(page, gallery)
    dragged = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["Dear reader, this is no picture.\\n"], "no picture.jpg"));
            return transfer;
        }"""
    )
    page.dispatch_event("main", "dragenter", {"dataTransfer": dragged})
    expect(page.get_by_text("Let go to send the photographs")).to_be_visible()
    page.dispatch_event("main", "drop", {"dataTransfer": dragged})
    expect(page.get_by_text("Let go to send the photographs")).to_be_hidden()
    mine = tile(page, "no picture.jpg")
    expect(mine).to_have_attribute("data-state", "refused", timeout=SOON)
    expect(mine).to_contain_text("Refused at the stage magic")
    assert is_same_document(page)
    page.get_by_role("link", name="no picture.jpg").click()
    expect(page.locator(".picture")).to_contain_text("Refused at the stage magic")
    expect(step(page, "Refused at the stage magic")).to_have_count(1)
    expect(step(page, "photo.uploaded handled by gallery.derive")).to_have_count(1)


def test_a_broken_connection_is_told_and_the_file_sent_again(
    page: Page, gallery: Gallery, browser_errors: list[str], tmp_path: Path
) -> None:
    path = draw(Scene("second try.jpg", 1, 1, 1, 11), tmp_path, 3, width=800, height=600)
    wall(page, gallery)
    page.route("**/upload", lambda route: route.abort())
    page.get_by_label("Choose photos").set_input_files(path)
    expect(page.get_by_text("The connection broke off")).to_be_visible()
    assert "ERR_FAILED" in browser_errors.pop()
    page.unroute("**/upload")
    page.get_by_role("button", name="Try again").click()
    expect(tile(page, path.name)).to_have_attribute("data-state", SETTLED, timeout=SOON)
    expect(page.get_by_text("The connection broke off")).to_be_hidden()
    assert is_same_document(page)


def test_every_page_of_the_admin_opens(page: Page, gallery: Gallery) -> None:
    page.goto(f"{gallery.url}admin/")
    gallery.log_in(page)
    lists = page.locator("#content-main th a").evaluate_all("all => all.map(a => [a.textContent, a.href])")
    names = {name.strip().lower() for name, _address in lists}
    assert names >= {"overview", "photos", "uploads", "message events", "dead letters", "derivations", "runs"}
    opened = 0
    for name, address in lists:
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, name
        row = page.locator("#result_list tbody th a").first
        if row.count():
            row.click()
            expect(page.locator("#content h1"), name).to_be_visible()
            expect(page.locator(".errornote"), name).to_have_count(0)
            opened += 1
    assert opened >= 8
    page.goto(f"{gallery.url}admin/koan_core/overview/")
    expect(page.locator(".koan-panel")).not_to_have_count(0)
    expect(page.locator(".koan-badge").first).to_have_text("healthy")


#: Accepts a photograph and takes its bytes away before anybody can see the message.
TAKE_AWAY = """
from pathlib import Path
from django.conf import settings
from django.core.files import File
from django.db import transaction
from sampleproject.gallery import intake

with transaction.atomic(), open({path!r}, "rb") as stream:
    upload = intake.accept(File(stream, name="taken away.jpg"))
    stored = Path(settings.STORAGES["hot"]["OPTIONS"]["location"], "gallery", upload.key)
    stored.rename(stored.with_name("away"))
print(stored)
"""


def test_a_dead_letter_is_replayed_once_its_cause_is_gone(page: Page, gallery: Gallery, tmp_path: Path) -> None:
    path = draw(Scene("any.jpg", 1, 1, 1, 9), tmp_path, 2, width=800, height=600)
    stored = Path(gallery.run(TAKE_AWAY.format(path=str(path))).splitlines()[-1])
    wall(page, gallery)
    mine = tile(page, "taken away.jpg")
    expect(mine).to_have_attribute("data-state", "dead", timeout=SOON)
    stored.with_name("away").rename(stored)

    page.goto(f"{gallery.url}admin/koan_messaging/deadletter/?state__exact=dead")
    gallery.log_in(page)
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator("#result_list")).to_contain_text("there is no object")
    page.locator("input.action-select").check()
    page.get_by_label("Action:").select_option("replay")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".messagelist .success")).to_contain_text("1 done")

    page.goto(gallery.url)
    expect(mine).to_have_attribute("data-state", SETTLED, timeout=SOON)
    page.get_by_role("link", name="taken away.jpg").click()
    expect(step(page, "photo.uploaded replayed")).to_have_count(1)
    expect(step(page, "photo.uploaded handled by gallery.derive")).to_have_count(1)


def test_a_killed_worker_loses_nothing(page: Page, gallery: Gallery) -> None:
    wall(page, gallery)
    before = page.locator("#worker b")
    expect(before).to_have_text(re.compile(r"\d+"))
    pid = before.inner_text()
    page.get_by_role("button", name="kill the worker").click()
    story = page.get_by_role("log")
    expect(story).to_contain_text(re.compile(rf"worker {pid} killed with \d photos? in flight"), timeout=SOON)
    expect(story).to_contain_text(re.compile(r"supervisor started worker \d+ after \d"), timeout=SOON)
    expect(story).to_contain_text(re.compile(r"(\d) of \1 published, 0 lost, 0 doubled"), timeout=LATER)
    expect(page.locator("#worker b")).not_to_have_text(pid)
    assert is_same_document(page)


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_need_not_scroll_sideways(page: Page, gallery: Gallery, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    wall(page, gallery)
    expect(page.locator(".tile").first).to_be_visible()
    assert no_sideways_scroll(page)
    page.locator(".tile a").last.click()
    expect(page.locator(".step").first).to_be_visible()
    assert no_sideways_scroll(page)
