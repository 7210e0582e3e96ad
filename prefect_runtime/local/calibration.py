"""Which calibration the noisy backends have: a number that seeds what is drawn, kept in the data folder."""

from __future__ import annotations

import threading
from pathlib import Path

FIRST = 20_260_801


class Calibration:
    """The number of the calibration of today; a new one is drawn by `redraw`, as after a real device's tune-up.

    Args:
        path: File that keeps it over a restart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self.number = int(path.read_text())
        except (FileNotFoundError, ValueError):
            self.number = FIRST

    def redraw(self) -> int:
        """Take the next number, and return it. Jobs that run already keep the one they began with."""
        with self._lock:
            new = self._path.with_suffix(".new")
            new.write_text(str(self.number + 1))
            new.rename(self._path)  # a disk that takes no more leaves the old number
            self.number += 1
            return self.number
