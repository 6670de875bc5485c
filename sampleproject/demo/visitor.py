"""Uploads files over HTTP, as a visitor's browser does."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 60


class VisitorError(Exception):
    """The page did not answer as it should."""


class Visitor:
    """A browser without a screen: it keeps its cookies and sends the CSRF token."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: SimpleCookie = SimpleCookie()

    def wait(self, path: str, seconds: float) -> None:
        """Wait until ``path`` answers with 200."""
        end = time.monotonic() + seconds
        while True:
            try:
                if self._request("GET", path)[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > end:
                raise VisitorError(f"{path} did not answer within {seconds:g} s")
            time.sleep(0.1)

    def upload(self, path: Path) -> str:
        """Send one file; return the id of its upload."""
        if "csrftoken" not in self._cookies:
            self._request("GET", "/")
        boundary = uuid.uuid4().hex
        name = path.name.replace("\\", "_").replace('"', "%22").replace("\r", " ").replace("\n", " ")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="photos"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "X-CSRFToken": self._cookies["csrftoken"].value,
        }
        status, answer = self._request("POST", "/upload", body, headers)
        if status != 202:
            raise VisitorError(
                f"{path.name}: the upload was answered with {status}: {answer[:300].decode(errors='replace')}"
            )
        found: str = json.loads(answer)["accepted"][0]["id"]
        return found

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in self._cookies.items())
        try:
            connection.request(method, path, body, {**(headers or {}), **({"Cookie": cookie} if cookie else {})})
            response = connection.getresponse()
            for value in response.headers.get_all("Set-Cookie") or ():
                self._cookies.load(value)
            return response.status, response.read()
        finally:
            connection.close()
