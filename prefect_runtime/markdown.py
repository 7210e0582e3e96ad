"""The pieces of Markdown that artifacts are made of. Pure text."""

from __future__ import annotations

from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table with a head."""
    columns = list(head)
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(' --- ' for _ in columns)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def cell(text: str) -> str:
    """Return a text that cannot break out of a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ").strip()


def bar(share: float, characters: int) -> str:
    """Return a bar for a share of one; something is shown of whatever there is."""
    return "█" * max(round(characters * share), 1 if share > 0 else 0)
