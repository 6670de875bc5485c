"""The directive ``face``: documents each name that a package exports, from its docstring.

The faces export lazily, so autodoc's ``automodule`` would see nothing: the names are asked for one by one.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("face", Face)
    return {"parallel_read_safe": True}


class Face(SphinxDirective):
    """``.. face:: koan_django.messaging``, inside an ``eval-rst`` block."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what autodoc makes of the names, in the order of ``__all__``."""
        package = import_module(self.arguments[0])
        lines = [line for name in package.__all__ for line in _block(package.__name__, name, getattr(package, name))]
        return self.parse_text_to_nodes(StringList(lines, package.__name__))


def _block(package: str, name: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {package}.{name}", "   :members:", ""]
    if inspect.ismodule(value):
        return [f".. automodule:: {value.__name__}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {package}.{name}", ""]
    return [f".. autodata:: {package}.{name}", "   :no-value:", ""]
