"""What a person finds on the flow run's page in Prefect's UI, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

import pytest
from prefect import flow
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, execute, run_program, stream_results, wait_for_final_state

from .browser import PATIENCE_SECONDS, Browser, needed
from .support import artifacts, cards, eventually, run_id

pytestmark = [pytest.mark.pr, needed]

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


def test_the_runs_log_tells_the_jobs_story(browser: Browser, flow_run: UUID) -> None:
    page = f"/v2/runs/flow-run/{flow_run}?tab=Logs"
    wanted = ["submitted (sampler on aer_simulator)", "DONE on aer_simulator", "interim result 1"]  # the first rows
    told = lambda: all(word in browser.text(page) for word in wanted)  # noqa: E731
    eventually(told, seconds=PATIENCE_SECONDS, what=f"{wanted} in the log")
    browser.picture(page, "log.png")


def test_the_blocks_form_says_what_each_field_means_and_hides_the_token(browser: Browser) -> None:
    fields = RuntimeCredentials.model_fields
    titles = [str(field.title) for field in fields.values()]
    meanings = [str(field.description) for field in fields.values()]
    page = "/v2/blocks/catalog/quantum-runtime-credentials/create"

    def everything_is_there() -> bool:
        text = browser.text(page)
        return [word for word in titles + meanings if re.sub(r"[`\s]+", " ", word) not in text] == []

    eventually(everything_is_there, seconds=PATIENCE_SECONDS, what="all fields with their descriptions")
    assert 'type="password"' in browser.html(page)
    browser.picture(page, "block.png", height=2600)


def test_a_saved_blocks_page_shows_no_token(browser: Browser) -> None:
    document = RuntimeCredentials(channel="classic", url="http://127.0.0.1:1", token="a-secret-token").save("seen")
    page = f"/v2/blocks/block/{document}"
    eventually(lambda: "127.0.0.1:1" in browser.text(page), seconds=PATIENCE_SECONDS, what="the block's page")
    assert "a-secret-token" not in browser.html(page)
