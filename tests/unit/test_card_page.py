"""What a person reads on a job card."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from prefect_runtime.artifacts import render_card, render_changes, says_final, split_result
from prefect_runtime.markdown import bar

JOB = {
    "program": "sampler",
    "job_id": "c3f0",
    "status": "DONE",
    "backend": "ibm_fez",
    "created": "2026-01-02T10:00:00Z",
    "started": "2026-01-02T10:09:00Z",
    "ended": "2026-01-02T10:12:00Z",
}


def row(markdown: str, label: str) -> str:
    (line,) = (line for line in markdown.splitlines() if line.startswith(f"| **{label}** |"))
    return line.split("|")[2].strip()


def test_queue_and_run_are_shown_with_their_shares_of_the_whole() -> None:
    page = render_card(JOB)
    queued, ran = row(page, "In the queue"), row(page, "Running")
    assert queued.startswith("9.0 min ")
    assert ran.startswith("3.0 min ")
    assert queued.count("█") == 3 * ran.count("█") == 18


def test_a_time_that_is_missing_or_runs_backwards_shows_no_bar_of_less_than_nothing() -> None:
    assert "In the queue" not in render_card({**JOB, "started": ""})
    assert row(render_card({**JOB, "started": "2026-01-02T09:59:59Z"}), "In the queue") == "0 ms"


def test_a_failure_says_why_with_its_code_and_what_to_do() -> None:
    failed = {"status": "ERROR", "reason": "bad | gate", "reason_code": "1517", "solution": "Transpile first."}
    page = render_card({**JOB, **failed})
    assert "| **Why** | bad \\| gate |" in page
    assert row(page, "Code") == "1517"
    assert row(page, "What to do") == "Transpile first."
    assert says_final(page)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert(1)>"),
        ("![x](http://elsewhere.example/x.png)", "!\\[x](http://elsewhere.example/x.png)"),
        ("C:\\|C:", "C:\\\\\\|C:"),
        ("TypeError: A.__init__() takes *args", "TypeError: A.\\_\\_init\\_\\_() takes \\*args"),
        ("no backend aer_simulator_2", "no backend aer_simulator_2"),
        ("one\r| two", "one \\| two"),
    ],
)
def test_what_a_program_says_is_a_text_and_no_markdown(reason: str, shown: str) -> None:
    assert f"| **Why** | {shown} |\n" in render_card({**JOB, "status": "ERROR", "reason": reason})


def test_changes_of_the_status_are_told_with_their_times() -> None:
    seen = {"QUEUED": datetime(2026, 1, 2, 10, 0, 1, tzinfo=UTC), "DONE": datetime(2026, 1, 2, 10, 12, tzinfo=UTC)}
    page = render_card({**JOB, "changes": render_changes(seen), "log": "12 lines, 1 warning"})
    assert row(page, "Seen") == "QUEUED 10:00:01 → DONE 10:12:00 UTC"
    assert row(page, "Log") == "12 lines, 1 warning"


def test_the_results_section_is_found_again_on_a_card() -> None:
    section = "### Result\n\nA dict with 2 entries."
    assert split_result(render_card(JOB, section)) == section
    assert split_result(render_card(JOB)) == ""
    assert split_result(render_card({**JOB, "status": "ERROR", "reason": "no ### Result of mine"})) == ""


def test_something_is_shown_of_whatever_there_is() -> None:
    assert [len(bar(share, 24)) for share in (0.0, 0.001, 0.5, 1.0)] == [0, 1, 12, 24]
