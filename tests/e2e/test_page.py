"""What a person finds on the flow run's page in Prefect's UI, in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from qiskit import QuantumCircuit

from prefect_runtime import execute, run_program, stream_results, wait_for_final_state

from .support import artifacts, cards, eventually, run_id

CHROMIUM = shutil.which("chromium")
PATIENCE_SECONDS = 60.0

pytestmark = [
    pytest.mark.pr,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; .ci/setup brings it"),
]

PROGRESSES = """
def main(backend, user_messenger, *, count=20):
    for number in range(count):
        print(f"step {number + 1} of {count}")
        user_messenger.publish({"iteration": number + 1, "total": count})
    return "done"
"""


@pytest.fixture(scope="module")
def flow_run(upload: Callable[..., str]) -> UUID:
    """A flow run with a sampler's job, its counts as a picture, and a job that tells how far it is."""
    program, bell = upload(PROGRESSES), QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    bell.measure_all()

    @flow(name="seen-in-a-browser")
    def seen() -> None:
        execute("local", "sampler", [bell], shots=1000, histogram=True)
        job_id = run_program("local", program, {})
        stream_results("local", job_id)
        wait_for_final_state("local", job_id)

    state = seen(return_state=True)
    assert state.is_completed()
    return run_id(state)


class Browser:
    """A headless Chromium; pictures go to a folder if PREFECT_RUNTIME_TEST_PICTURES names one."""

    def __init__(self, server_url: str, profile: Path) -> None:
        self._base = server_url.removesuffix("/api")
        self._profile = profile

    def _run(self, path: str, *more: str) -> str:
        assert CHROMIUM is not None
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-component-update",
            f"--user-data-dir={self._profile}", "--hide-scrollbars", "--window-size=1440,1600",
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

    def picture(self, path: str, name: str) -> None:
        """Keep a picture of a page, for people."""
        folder = os.environ.get("PREFECT_RUNTIME_TEST_PICTURES")
        if folder:
            self._run(path, f"--screenshot={Path(folder, name)}")


@pytest.fixture(scope="module")
def browser(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(server_url, tmp_path_factory.mktemp("chromium"))


def test_the_flow_runs_page_lists_job_cards_progress_and_histogram(browser: Browser, flow_run: UUID) -> None:
    page = f"/v2/runs/flow-run/{flow_run}?tab=Artifacts"
    keys = [str(card.key) for card in cards(flow_run)]
    assert len(keys) == 2

    def everything_is_there() -> bool:
        text = browser.text(page).lower()
        return all(key in text for key in keys) and "markdown" in text and "progress" in text and "image" in text

    eventually(everything_is_there, seconds=PATIENCE_SECONDS, what="the artifacts on the page")
    browser.picture(page, "artifacts.png")


def test_the_jobs_card_is_readable_on_its_page(browser: Browser, flow_run: UUID) -> None:
    card = next(card for card in cards(flow_run) if "sampler" in str(card.description))
    page = f"/v2/artifacts/artifact/{card.id}"
    wanted = [str((card.metadata_ or {})["job_id"]), "DONE", "aer_simulator", "In the queue", "Running", "1000 shots"]

    def is_readable() -> bool:
        text = browser.text(page)
        return all(word in text for word in wanted)

    eventually(is_readable, seconds=PATIENCE_SECONDS, what=f"{wanted} on the card's page")
    browser.picture(page, "card.png")


def test_the_histogram_is_a_picture_on_its_page(browser: Browser, flow_run: UUID) -> None:
    (image,) = (one for one in artifacts(flow_run) if one.type == "image")
    page = f"/v2/artifacts/artifact/{image.id}"
    eventually(
        lambda: 'src="data:image/png;base64,' in browser.html(page), seconds=PATIENCE_SECONDS, what="the picture"
    )
    browser.picture(page, "histogram.png")
