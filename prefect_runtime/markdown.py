"""The pieces of Markdown that artifacts are made of. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table with a head."""
    columns = list(head)
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(' --- ' for _ in columns)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


_ACTIVE = re.compile(r"[\\`*\[<|~&]|(?<![^\W_])_+|_+(?![^\W_])")
"""What makes a link, an image, HTML or emphasis, and what ends a cell; an underscore within a word does nothing."""


def cell(text: str) -> str:
    """Return a text that shows in a table's cell as it is: it breaks out of none, and is no Markdown of its own."""
    line = " ".join(text.splitlines()).strip()
    return _ACTIVE.sub(lambda found: "".join(f"\\{character}" for character in found[0]), line)


def bar(share: float, characters: int) -> str:
    """Return a bar for a share of one; something is shown of whatever there is."""
    return "█" * max(round(characters * share), 1 if share > 0 else 0)
