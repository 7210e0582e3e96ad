"""What both blocks do with a field that they do not have. Prefect's own blocks take it, and never read it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

_PREFECTS = frozenset({"block_type_slug", "_block_document_id", "_block_document_name", "_is_anonymous"})
"""What Prefect itself puts among the fields of a block that it has saved."""


def refuse_unknown(given: Any, known: Iterable[str]) -> None:
    """Refuse fields that a block does not have: with `chanel` in place of `channel`, jobs would go elsewhere.

    Args:
        given: What a block is made of; nothing else than a dictionary is looked at.
        known: Names of the block's fields.

    Raises:
        ValueError: There is one; the message has names, and no values.
    """
    if not isinstance(given, dict):
        return
    names = sorted(known)
    for name in given:
        if name in names or name in _PREFECTS:
            continue
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}."
        raise ValueError(f"there is no field {name!r}; {hint}")
