"""Each request has a correlation id and a trace, sync and async, and its answer names the id."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory, override_settings
from django.urls import path

from koan_django.core.context import correlation, snapshot, tenant
from koan_django.core.middleware import ContextMiddleware

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def look(request: HttpRequest) -> HttpResponse:
    return JsonResponse(snapshot())


async def alook(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return JsonResponse(snapshot())


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("view")


urlpatterns = [path("look", look), path("alook", alook), path("fail", fail)]


@pytest.fixture(autouse=True)
def _urls() -> object:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=["koan_django.core.middleware.ContextMiddleware"]):
        yield


@pytest.mark.parametrize("url", ["/look", "/alook"])
def test_a_request_without_an_id_gets_one_and_is_told(client: Client, url: str) -> None:
    first, second = client.get(url), client.get(url)
    assert first.json() == {"correlation": first.headers["X-Correlation-ID"]}
    assert first.headers["X-Correlation-ID"] != second.headers["X-Correlation-ID"]


@pytest.mark.parametrize("url", ["/look", "/alook"])
def test_an_id_and_a_trace_that_are_given_are_kept(client: Client, url: str) -> None:
    response = client.get(url, headers={"X-Correlation-ID": "order-7", "traceparent": TRACE})
    assert response.json() == {"correlation": "order-7", "traceparent": TRACE}
    assert response.headers["X-Correlation-ID"] == "order-7"


@pytest.mark.parametrize("given", ["a b", "x" * 200, "<script>", "ä", ""])
def test_an_id_that_cannot_travel_is_replaced(client: Client, given: str) -> None:
    response = client.get("/look", headers={"X-Correlation-ID": given, "traceparent": "nonsense"})
    assert set(response.json()) == {"correlation"}
    assert response.headers["X-Correlation-ID"] != given


@pytest.mark.parametrize("url", ["/look", "/alook"])
def test_async_requests_have_theirs_each(url: str) -> None:
    async def ask() -> list[str]:
        client = AsyncClient()
        responses = await asyncio.gather(
            *(client.get(url, headers={"X-Correlation-ID": f"c-{number}"}) for number in range(5))
        )
        return [response.json()["correlation"] for response in responses]

    assert asyncio.run(ask()) == [f"c-{number}" for number in range(5)]


def test_nothing_is_left_after_the_request_nor_taken_over_from_before(client: Client) -> None:
    with tenant.use("acme"), correlation.use("outer"):
        assert client.get("/look").json()["correlation"] != "outer"
        assert "tenant" not in client.get("/look").json()
        assert (tenant.current(), correlation.current()) == ("acme", "outer")


def test_an_answer_to_a_failure_names_the_id_too() -> None:
    client = Client(raise_request_exception=False)
    response = client.get("/fail", headers={"X-Correlation-ID": "order-7"})
    assert (response.status_code, response.headers["X-Correlation-ID"]) == (500, "order-7")


def test_it_is_as_sync_or_async_as_what_it_wraps() -> None:
    assert not iscoroutinefunction(ContextMiddleware(look))
    wrapped = ContextMiddleware(alook)
    assert iscoroutinefunction(wrapped)
    response = asyncio.run(wrapped(AsyncRequestFactory().get("/alook")))
    assert response.headers["X-Correlation-ID"]
    assert ContextMiddleware(look)(RequestFactory().get("/look")).headers["X-Correlation-ID"]
