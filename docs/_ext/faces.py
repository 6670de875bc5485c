"""The directive ``face``: documents each name that a package exports, from its docstring.

The faces export lazily, so autodoc's ``automodule`` would see nothing: the names are asked for one by one.
"""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from importlib.util import resolve_name
from typing import TYPE_CHECKING, Any

from docutils.statemachine import StringList
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from types import ModuleType

    from docutils import nodes
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("face", Face)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True}


class Face(SphinxDirective):
    """``.. face:: koan_django.messaging``, inside an ``eval-rst`` block.

    Names that follow are documented in the place of ``__all__``, for a module that is public only in part.
    """

    required_arguments = 1
    optional_arguments = 20

    def run(self) -> list[nodes.Node]:
        """Return what autodoc makes of the names, in their order."""
        package = import_module(self.arguments[0])
        names, homes = self.arguments[1:] or package.__all__, _homes(package)
        lines = [line for name in names for line in _block(package, name, homes.get(name, package.__name__))]
        return self.parse_text_to_nodes(StringList(lines, package.__name__))


def shorten(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, signature: str | None, returns: Any) -> Any:
    """Leave out the signature of a class that only we make: it has private parameters."""
    return ("", returns) if signature and re.search(r"[(\s]_\w+:", signature) else None


def _homes(package: ModuleType) -> dict[str, str]:
    """The module that defines each name, from the imports that type checkers see."""
    imports = (node for node in ast.walk(ast.parse(inspect.getsource(package))) if isinstance(node, ast.ImportFrom))
    return {
        alias.name: resolve_name("." * node.level + (node.module or ""), package.__name__)
        for node in imports
        for alias in node.names
    }


def _block(package: ModuleType, name: str, home: str) -> list[str]:
    value, path = getattr(package, name), f"{package.__name__}.{name}"
    if inspect.isclass(value):
        return [f".. autoclass:: {path}", "   :members:", ""]
    if inspect.ismodule(value):
        return [f".. rubric:: The module ``{path}``", "", f".. automodule:: {value.__name__}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {path}", ""]
    comment = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), [])
    inside = f".. py:currentmodule:: {package.__name__}"  # a module that was documented before leaves its own
    return [inside, "", f".. py:data:: {name}", "", *(f"   {line}" for line in comment), ""]
