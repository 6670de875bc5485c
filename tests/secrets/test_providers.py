"""Every provider keeps the same contract; each has its own rules besides."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from koan_django.secrets import Provider, SecretAccessError, SecretFormatError, SecretReference
from koan_django.secrets.providers.env import EnvProvider, variable_name
from koan_django.secrets.providers.file import MAX_BYTES, FileProvider
from koan_django.secrets.providers.memory import MemoryProvider
from koan_django.secrets.references import parse

Make = Callable[[Mapping[str, str]], Provider]


def fetch(provider: Provider, text: str) -> str | None:
    value = provider.fetch(parse(text))
    return None if value is None else value.reveal()


@pytest.fixture(params=["env", "file", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Build a provider that holds the given secrets by path."""

    def env(values: Mapping[str, str]) -> Provider:
        return EnvProvider(environ={variable_name(path): value for path, value in values.items()})

    def file(values: Mapping[str, str]) -> Provider:
        for path, value in values.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(value)
        return FileProvider(root=tmp_path)

    return {"env": env, "file": file, "memory": lambda values: MemoryProvider(values=values)}[request.param]


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Run as nobody where the tests run as root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


class TestContract:
    def test_a_secret_is_found_by_its_path_at_any_depth(self, make: Make) -> None:
        provider = make({"a": "one", "app/prod/database": "two", "x/y/z/w": "three"})
        assert [fetch(provider, path) for path in ("a", "app/prod/database", "x/y/z/w")] == ["one", "two", "three"]

    def test_what_is_not_there_is_none_and_no_error(self, make: Make) -> None:
        provider = make({"a": "one"})
        assert [fetch(provider, text) for text in ("b", "a/b", "b#field", "a/b/c#d")] == [None] * 4

    def test_a_field_is_read_from_a_json_object(self, make: Make) -> None:
        provider = make({"app/db": json.dumps({"user": "u", "port": 5432, "nested": {"a": 1}})})
        assert fetch(provider, "app/db#user") == "u"
        assert fetch(provider, "app/db#port") == "5432"
        assert fetch(provider, "app/db#nested") == '{"a": 1}'
        assert fetch(provider, "app/db#nobody") is None

    def test_a_version_that_is_not_kept_is_not_answered_by_another(self, make: Make) -> None:
        assert fetch(make({"a": "one"}), "a@7") is None

    def test_several_are_fetched_at_once(self, make: Make) -> None:
        provider = make({"a": "one", "b": "two"})
        found = provider.fetch_many([parse("a"), parse("b"), parse("c")])
        assert {reference.path: value.reveal() for reference, value in found.items()} == {"a": "one", "b": "two"}

    def test_unicode_is_kept(self, make: Make) -> None:
        assert fetch(make({"a": "päß 🔑"}), "a") == "päß 🔑"


class TestEnv:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("database", "DATABASE"),
            ("app/prod/database", "APP_PROD_DATABASE"),
            ("app/prod-db#user.name", "APP_PROD_DB__USER_NAME"),
            ("größe", "GR_SSE"),
        ],
    )
    def test_the_name_of_the_variable(self, text: str, name: str) -> None:
        reference = parse(text)
        assert variable_name(reference.path, reference.field) == name

    def test_the_prefixed_variable_comes_first_and_an_empty_one_counts_as_absent(self) -> None:
        environ = {"KOAN_SECRET_DB": "prefixed", "DB": "bare", "KOAN_SECRET_B": "", "B": "bare", "C": ""}
        provider = EnvProvider(environ=environ)
        assert [fetch(provider, name) for name in ("db", "b", "c")] == ["prefixed", "bare", None]

    def test_without_the_empty_prefix_only_what_was_meant_as_a_secret_is_read(self) -> None:
        provider = EnvProvider(prefixes=["SHOP_"], environ={"PATH": "/bin", "SHOP_DB": "x"})
        assert (fetch(provider, "path"), fetch(provider, "db")) == (None, "x")

    def test_a_variable_of_the_field_wins_over_the_json(self) -> None:
        provider = EnvProvider(environ={"DB": '{"user": "json", "port": 1}', "DB__USER": "own"})
        assert (fetch(provider, "db#user"), fetch(provider, "db#port")) == ("own", "1")

    def test_a_variable_that_is_no_json_has_no_field(self) -> None:
        assert fetch(EnvProvider(environ={"DB": "postgres"}), "db#user") is None

    def test_the_process_environment_is_read_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        provider = EnvProvider()
        monkeypatch.setenv("KOAN_SECRET_SOMETHING_NEW", "1")
        assert fetch(provider, "something/new") == "1"
        monkeypatch.setenv("KOAN_SECRET_SOMETHING_NEW", "2")
        assert fetch(provider, "something/new") == "2"


class TestMemory:
    def test_versions_and_fields_are_keys(self) -> None:
        provider = MemoryProvider(values={"a": "new", "a@1": "old", "db@2": '{"user": "u2"}', "db#user": "now"})
        assert [fetch(provider, text) for text in ("a", "a@1", "db#user@2", "db#user")] == ["new", "old", "u2", "now"]

    def test_values_change(self) -> None:
        provider = MemoryProvider()
        provider.set("a", "1")
        assert fetch(provider, "a") == "1"
        provider.remove("a")
        provider.remove("a")
        assert fetch(provider, "a") is None


class TestFile:
    def test_one_line_end_is_dropped_unless_it_is_kept(self, tmp_path: Path) -> None:
        for name, content in {"a": b"x\n", "b": b"x\r\n", "c": b"x\n\n", "d": b" x ", "e": b"\n"}.items():
            (tmp_path / name).write_bytes(content)
        provider = FileProvider(root=tmp_path)
        assert [fetch(provider, name) for name in "abcde"] == ["x", "x", "x\n", " x ", ""]
        assert fetch(FileProvider(root=str(tmp_path), strip_newline=False), "a") == "x\n"

    def test_bytes_are_kept_as_they_are(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(b"\x00\xff\xfe")
        value = FileProvider(root=tmp_path).fetch(SecretReference("key"))
        assert value is not None
        assert value.reveal_bytes() == b"\x00\xff\xfe"

    def test_a_field_is_a_file_of_a_mounted_directory(self, tmp_path: Path) -> None:
        (tmp_path / "db").mkdir()
        (tmp_path / "db/password").write_text("p")
        provider = FileProvider(root=tmp_path)
        assert fetch(provider, "db#password") == fetch(provider, "db/password") == "p"
        assert fetch(provider, "db#user") is None

    def test_a_kubernetes_mount_is_followed_and_its_swap_counts_at_once(self, tmp_path: Path) -> None:
        for generation in ("1", "2"):
            (tmp_path / f"..gen{generation}").mkdir()
            (tmp_path / f"..gen{generation}/password").write_text(generation)
        (tmp_path / "..data").symlink_to("..gen1")
        (tmp_path / "password").symlink_to("..data/password")
        provider = FileProvider(root=tmp_path)
        assert fetch(provider, "password") == "1"
        (tmp_path / "..new").symlink_to("..gen2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        assert fetch(provider, "password") == "2"

    def test_a_mount_that_is_swapped_all_the_time_is_always_read_whole(self, tmp_path: Path) -> None:
        for generation in ("1", "2"):
            (tmp_path / f"..gen{generation}").mkdir()
            (tmp_path / f"..gen{generation}/password").write_text(generation * 1000)
        (tmp_path / "..data").symlink_to("..gen1")
        (tmp_path / "password").symlink_to("..data/password")
        provider, ended = FileProvider(root=tmp_path), threading.Event()

        def swap() -> None:
            turn = 0
            while not ended.is_set():
                turn = 3 - turn if turn else 2
                (tmp_path / "..new").symlink_to(f"..gen{turn}")
                (tmp_path / "..new").rename(tmp_path / "..data")

        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            found = {fetch(provider, "password") for _ in range(500)}
        finally:
            ended.set()
            swapper.join()
        assert found <= {"1" * 1000, "2" * 1000}

    def test_a_change_of_the_same_size_counts_at_once(self, tmp_path: Path) -> None:
        provider = FileProvider(root=tmp_path)
        for turn in range(10):
            (tmp_path / "a").write_text(str(turn))
            assert fetch(provider, "a") == str(turn)

    @pytest.mark.parametrize("place", ["file", "directory", "chain"])
    def test_a_link_out_of_the_root_is_refused(self, tmp_path: Path, place: str) -> None:
        root, outside = tmp_path / "root", tmp_path / "root-evil"
        root.mkdir()
        outside.mkdir()
        (outside / "password").write_text("stolen")
        (root / "inner").symlink_to(outside)
        (root / "file").symlink_to(outside / "password")
        (root / "chain").symlink_to("inner/password")
        text = {"file": "file", "directory": "inner#password", "chain": "chain"}[place]
        with pytest.raises(SecretAccessError, match="leads out of"):
            fetch(FileProvider(root=root), text)

    def test_the_root_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real/a").write_text("x")
        (tmp_path / "link").symlink_to("real")
        assert fetch(FileProvider(root=tmp_path / "link"), "a") == "x"

    def test_a_loop_of_links_is_an_error_and_ends(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(SecretAccessError):
            fetch(FileProvider(root=tmp_path), "a")

    def test_a_pipe_does_not_block_and_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(SecretFormatError, match="regular files"):
            fetch(FileProvider(root=tmp_path), "pipe")

    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "db").mkdir()
        with pytest.raises(SecretFormatError, match="#field"):
            fetch(FileProvider(root=tmp_path), "db")

    def test_a_huge_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x" * (MAX_BYTES + 1))
        with pytest.raises(SecretFormatError, match="too large"):
            fetch(FileProvider(root=tmp_path), "a")

    def test_a_file_that_is_no_json_and_asked_for_a_field_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("plain")
        with pytest.raises(SecretFormatError, match="no fields"):
            fetch(FileProvider(root=tmp_path), "a#user")

    def test_a_file_that_may_not_be_read_is_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            (Path(folder) / "a").write_text("x")
            (Path(folder) / "a").chmod(0)
            with ordinary_user(), pytest.raises(SecretAccessError, match="cannot be read"):
                fetch(FileProvider(root=folder), "a")

    def test_a_missing_root_is_not_found_and_a_problem(self, tmp_path: Path) -> None:
        provider = FileProvider(root=tmp_path / "nowhere")
        assert fetch(provider, "a") is None
        assert list(provider.problems()) == [f"{tmp_path / 'nowhere'} is not a directory"]
        assert not list(FileProvider(root=tmp_path).problems())
