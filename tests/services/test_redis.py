from __future__ import annotations

from redis import Redis as Client

from tests.services.redis import Redis


def test_it_keeps_what_it_is_given(redis: Redis) -> None:
    with Client.from_url(redis.url) as client:
        client.set("koan-test:naïve", "café", ex=60)
        assert client.get("koan-test:naïve") == "café".encode()
