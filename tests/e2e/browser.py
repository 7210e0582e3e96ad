"""A real browser for tests of what a person sees on Prefect's pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
PATIENCE_SECONDS = 60.0
"""For a page to show what is expected of it."""

needed = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; .ci/setup brings it")


class Browser:
    """A headless Chromium; pictures go to a folder if PREFECT_RUNTIME_TEST_PICTURES names one."""

    def __init__(self, server_url: str, profile: Path) -> None:
        self._base = server_url.removesuffix("/api")
        self._profile = profile

    def _run(self, path: str, *more: str, height: int = 1600) -> str:
        assert CHROMIUM is not None
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-component-update",
            f"--user-data-dir={self._profile}", "--hide-scrollbars", f"--window-size=1440,{height}",
            "--virtual-time-budget=15000", *more, f"{self._base}{path}",
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout

    def text(self, path: str) -> str:
        """Return what a page says, without markup."""
        page = re.sub(r"<(script|style)\b.*?</\1>", " ", self._run(path, "--dump-dom"), flags=re.DOTALL)
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))

    def html(self, path: str) -> str:
        """Return a page's markup."""
        return self._run(path, "--dump-dom")

    def picture(self, path: str, name: str, *, height: int = 1600) -> None:
        """Keep a picture of a page, for people."""
        folder = os.environ.get("PREFECT_RUNTIME_TEST_PICTURES")
        if folder:
            self._run(path, f"--screenshot={Path(folder, name)}", height=height)
