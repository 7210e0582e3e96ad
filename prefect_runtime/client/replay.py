"""The beginning of a connection, on which a server may send again what we have. Used by streaming.py."""

from __future__ import annotations


class Replay:
    """Tells what is new on a connection from what is sent again: all from the first, just as it came.

    New results that look like our first ones look like a replay as well: only at the end is it known what they were.

    Args:
        seen: Hashes of the texts so far; empty for a connection on which nothing comes twice.
    """

    def __init__(self, seen: list[int]) -> None:
        self._seen = seen
        self._held: list[str] = []
        self._over = not seen
        self.is_whole = False
        """True once all we had has come again, as it seems."""

    @property
    def is_under_way(self) -> bool:
        """True in the middle of what we have."""
        return bool(self._held)

    def take(self, text: str) -> list[str]:
        """Return the texts that are new, now that one more has come."""
        if self._over:
            return [text]
        if self._seen[len(self._held)] != hash(text):
            self._over = True
            new, self._held = [*self._held, text], []
            return new
        self._held.append(text)
        if len(self._held) == len(self._seen):
            self._over = self.is_whole = True
            self._held = []
        return []
