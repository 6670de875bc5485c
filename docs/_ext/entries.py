"""Puts beside each entry of the reference what the code says about it.

An entry is a target and what follows it, usually a term and its definition::

    (setting-inbox-retention)=
    `INBOX.RETENTION`
    : How long a claim is remembered.

The facts (type and default, phases, options of a command) are read from the code while the site is built, so that
they cannot be wrong. An entry for something that the code does not have is a warning, and the build fails by it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from inventory import PAGES, Entry, anchor_id, collect
from myst_parser.parsers.docutils_ import Parser
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("doctree-read", complete)
    return {"parallel_read_safe": True, "env_version": 1}


def complete(app: Sphinx, doctree: nodes.document) -> None:
    """Complete every entry of the page that was read."""
    if not app.env.docname.startswith("reference/"):
        return
    for target in list(doctree.findall(nodes.target)):
        anchor = target.get("refid", "")
        if anchor.partition("-")[0] in PAGES:
            entry = _entries().get(anchor_id(anchor))
            if entry is None:
                logger.warning("the code has no %s: remove the entry", anchor, location=target)
            else:
                _insert(target, entry)


@cache
def _entries() -> dict[str, Entry]:
    return collect()


def _insert(target: nodes.target, entry: Entry) -> None:
    facts = _markdown(entry.facts)
    place = target.next_node(descend=False, siblings=True)
    if isinstance(place, nodes.definition_list):
        next(place.findall(nodes.term)).append(_link(target))
        next(place.findall(nodes.definition))[0:0] = facts
    elif isinstance(place, nodes.section):
        place[1:1] = facts
    elif place is not None:
        place.parent.insert(place.parent.index(place), facts)


def _link(target: nodes.target) -> nodes.reference:
    """What a heading has, too: an address to send to somebody."""
    return nodes.reference("", "¶", refid=target["refid"], classes=["headerlink"])


def _markdown(text: str) -> list[nodes.Node]:
    document = new_document("<facts>", get_default_settings(Parser))
    Parser().parse(text, document)
    for node in document.children:
        if isinstance(node, nodes.Element):
            node["classes"].append("facts")
    return list(document.children)
