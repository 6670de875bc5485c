"""What a project has: where its settings, addresses and Celery app are written, and what is in them."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connections, models, router

from koan_django.core import celeryapps
from koan_django.core.exceptions import KoanError

from .sources import Source, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Project:
    """The project below ``root``. Every file is read once, so that several apps can change it."""

    root: Path
    sources: dict[Path, Source] = field(default_factory=dict)
    #: Apps to install, in their order; they are added in one go.
    wanted_apps: list[str] = field(default_factory=list)

    def source(self, path: Path) -> Source:
        """Return the file at ``path``; raises :class:`UnreadableError`."""
        path = path.resolve()
        if path not in self.sources:
            self.sources[path] = Source.read(path)
        return self.sources[path]

    def is_own(self, path: Path) -> bool:
        """Whether ``path`` is a file of the project, and not of an environment inside it."""
        return path.resolve().is_relative_to(self.root) and "site-packages" not in path.parts

    def module(self, name: str) -> Source | None:
        """Return the file of an imported module, if it is the project's own."""
        path = getattr(sys.modules.get(name) or import_module(name), "__file__", None)
        return self.source(Path(path)) if path and self.is_own(Path(path)) else None

    def settings(self, name: str = "") -> Source:
        """Return the file that assigns the setting ``name``: the settings module, or one that it takes all of."""
        chain = list(self._settings(settings.SETTINGS_MODULE))
        if not chain:
            fix = "Run the command where manage.py is, with the project's own settings."
            raise UnreadableError(f"{settings.SETTINGS_MODULE} is no file below {self.root}", fix=fix)
        return next((source for source in chain if name and source.statements(name)), chain[0])

    def _settings(self, name: str) -> Iterator[Source]:
        source = self.module(name)
        if source is None:
            return
        yield source
        for node in source.tree.body:
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                yield from self._settings(_absolute(node, name, sys.modules[name]))

    def urls(self) -> tuple[Source, ast.List] | None:
        """Return the file of ``ROOT_URLCONF`` and its list of patterns, if it is written as one."""
        name = getattr(settings, "ROOT_URLCONF", None)
        source = self.module(name) if name else None
        for node in source.statements("urlpatterns") if source else ():
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.List):
                assert source is not None
                return source, node.value
        return None

    def celery(self) -> celeryapps.CeleryApp | None:
        """Return the Celery app, ``None`` when there is none."""
        try:
            return celeryapps.find()
        except KoanError:
            return None

    def tasks(self) -> list[str]:
        """Return the names of the Celery tasks that the project itself defines."""
        found = self.celery()
        if found is None:
            return []
        found.app.loader.import_default_modules()
        found.app.finalize()
        return sorted(name for name, task in found.app.tasks.items() if self._defines(type(task).__module__))

    def _defines(self, module: str) -> bool:
        path = getattr(sys.modules.get(module), "__file__", None)
        return path is not None and self.is_own(Path(path))

    def file_fields(self) -> list[FileField]:
        """Return the file fields of the project's models, in the order of their lines."""
        found: dict[tuple[Path, int], FileField] = {}
        for model in apps.get_models():
            for each in model._meta.get_fields():
                if isinstance(each, models.FileField):
                    for written in self._written(model, each):
                        found.setdefault((written.source.path, written.call.lineno), written)
        return [found[key] for key in sorted(found)]

    def _written(self, model: type[models.Model], one: models.FileField) -> Iterator[FileField]:
        for cls in model.__mro__:
            path = _file_of(cls)
            if path is None or not self.is_own(path):
                continue
            source = self.source(path)
            call = _assigned(source.tree, cls.__qualname__, one.name)
            if call is not None:
                yield FileField(source, call, f"{cls.__module__}.{cls.__qualname__}.{one.name}", type(one))

    def beat_rows(self) -> list[str] | None:
        """Return the names of django-celery-beat's rows; ``None`` when they cannot be read."""
        if not apps.is_installed("django_celery_beat"):
            return []
        model: Any = apps.get_model("django_celery_beat", "PeriodicTask")
        if not _is_there(router.db_for_read(model)):
            return None
        try:
            theirs = model.objects.exclude(name="celery.backend_cleanup").exclude(task__startswith="koan_")
            return list(theirs.values_list("name", flat=True))
        except DatabaseError:
            return None


@dataclass(frozen=True)
class FileField:
    """A field as it is written: the call that makes it, its dotted name, and its class."""

    source: Source
    call: ast.Call
    name: str
    kind: type[models.FileField]

    @property
    def has_storage(self) -> bool:
        """Whether it names a storage of its own."""
        return any(keyword.arg in ("storage", None) for keyword in self.call.keywords)


def _is_there(alias: str) -> bool:
    """Whether the database may be asked: SQLite would make the file of one that is not there."""
    connection = connections[alias]
    return connection.vendor != "sqlite" or Path(connection.settings_dict["NAME"]).is_file()


def _absolute(node: ast.ImportFrom, name: str, module: Any) -> str:
    if not node.level:
        return node.module or ""
    package = name if hasattr(module, "__path__") else name.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def _file_of(cls: type) -> Path | None:
    try:
        found = inspect.getsourcefile(cls)
    except TypeError:  # built in, or made on the spot
        return None
    return Path(found) if found else None


def _assigned(tree: ast.Module, qualname: str, name: str) -> ast.Call | None:
    body: list[ast.stmt] = tree.body
    for part in qualname.split("."):
        inside = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == part), None)
        if inside is None:
            return None
        body = inside.body
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(value, ast.Call) and any(isinstance(each, ast.Name) and each.id == name for each in targets):
            return value
    return None
