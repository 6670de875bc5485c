"""A server that speaks as much of Vault's protocol as reading a secret takes: ``GET /v1/<mount>/data/<path>``.

It is no Vault: it keeps a dict, checks the token and answers in the form of the KV engine, version 2, at once. A real
Vault has more to do, so what a client saves by not asking is measured too low here. ``BENCH_VAULT_URL`` and
``BENCH_VAULT_TOKEN`` name a real Vault or OpenBao, with the secret ``app/database`` in the mount ``secret``.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.services.server import Server
from tests.services.waiting import free_port

TOKEN = "benchmark-token"
_SECRETS = {"app/database": {"user": "shop", "password": "correct horse battery staple"}}


class Vault(Server):
    """The server below, in a process of its own."""

    title = "Vault"
    name = "vault"
    packages = ()
    variable = "BENCH_VAULT_URL"
    url: str
    token = TOKEN

    @classmethod
    def binary(cls) -> Path | None:
        return Path(sys.executable)

    def exports(self) -> dict[str, str]:
        return {"BENCH_VAULT_URL": self.url, "BENCH_VAULT_TOKEN": self.token}

    def _adopt(self) -> None:
        self.url, self.token = os.environ[self.variable], os.environ["BENCH_VAULT_TOKEN"]

    def _launch(self) -> None:
        port = free_port()
        self._run("vault", [sys.executable, Path(__file__).resolve(), str(port)], env=dict(os.environ) | _PATH)
        self.url = f"http://127.0.0.1:{port}"

    def _contain(self) -> None:
        raise NotImplementedError("there is always an interpreter to run it")

    def _answers(self) -> bool:
        asked = urllib.request.Request(f"{self.url}/v1/secret/data/app/database", headers={"X-Vault-Token": self.token})
        with urllib.request.urlopen(asked, timeout=2) as answer:
            return bool(answer.status == 200)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as a real one keeps them
    wbufsize = -1  # head and body leave in one packet

    def do_GET(self) -> None:
        if self.headers.get("X-Vault-Token") != TOKEN:
            return self._answer(403, {"errors": ["permission denied"]})
        _, _, path = self.path.partition("/v1/secret/data/")
        found = _SECRETS.get(path.partition("?")[0])
        if found is None:
            return self._answer(404, {"errors": []})
        metadata = {"created_time": "2026-01-01T00:00:00Z", "deletion_time": "", "destroyed": False, "version": 1}
        data = {"data": found, "metadata": {**metadata, "custom_metadata": None}}
        return self._answer(
            200, {"request_id": "1", "lease_id": "", "renewable": False, "lease_duration": 0, "data": data}
        )

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        """Say nothing: that would be the larger part of the work."""


_PATH = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}

if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
