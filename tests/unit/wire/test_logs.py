"""The package's loggers show no secret, whoever forgets to take it out of a message."""

from __future__ import annotations

from pathlib import Path

import pytest

import prefect_runtime
from prefect_runtime.client import Credentials
from prefect_runtime.client.auth import Access
from prefect_runtime.wire.logs import MOST_HIDDEN, get_logger, hide

TOKEN = "an-api-key-0123456789"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/x:y::"


def test_a_token_is_taken_out_of_message_arguments_and_traceback(caplog: pytest.LogCaptureFixture) -> None:
    Credentials(
        channel="classic", token=TOKEN, url="https://runtime.example", proxies={"https": "http://me:s3cret-pw@p"}
    )
    Access("https://runtime.example", {"Authorization": "Bearer access-token-of-the-hour"})
    log = get_logger("prefect_runtime.test_logs")
    log.warning(f"said {TOKEN} aloud")
    log.warning("said %s and %s", CRN, {"a": "access-token-of-the-hour"})
    log.warning("the proxy has %s", "s3cret-pw")
    try:
        raise ValueError(f"refused {TOKEN}")
    except ValueError:
        log.exception("it broke")
    shown = caplog.text
    for secret in (TOKEN, "crn:v1", "access-token-of-the-hour", "s3cret-pw"):
        assert secret not in shown
    assert "said … aloud" in shown
    assert "ValueError: refused …" in shown
    assert not any(TOKEN in repr(record.__dict__) for record in caplog.records)


def test_what_is_no_secret_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    log = get_logger("prefect_runtime.test_logs")
    log.warning("job %s: %d tries, %s", "c3f0", 3, "x" * 5000)
    assert caplog.records[0].args == ("c3f0", 3, "x" * 5000)
    try:
        raise ValueError("no wonder")
    except ValueError:
        log.exception("it broke")
    assert caplog.records[1].exc_info


def test_a_word_is_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    hide("t", "open")
    get_logger("prefect_runtime.test_logs").warning("the session is open")
    assert caplog.messages == ["the session is open"]


def test_the_secrets_of_many_accounts_are_forgotten_in_turn(caplog: pytest.LogCaptureFixture) -> None:
    hide(*(f"secret-number-{number}" for number in range(MOST_HIDDEN + 1)))
    get_logger("prefect_runtime.test_logs").warning("secret-number-0, secret-number-1.")
    assert caplog.messages == ["secret-number-0, …."]


def test_every_module_has_its_logger_from_here() -> None:
    sources = {path: path.read_text() for path in Path(prefect_runtime.__file__).parent.rglob("*.py")}
    assert [path.name for path, text in sources.items() if "logging.getLogger(" in text] == ["logs.py"]
    assert sum("get_logger(__name__)" in text for text in sources.values()) > 25
