"""`prefect-runtime` with --block: the account of a saved block, of which Prefect is asked only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from canaries.values import PROXIES

from prefect_runtime import RuntimeCredentials
from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument

from .support import PUBLISHES, free_port


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect_runtime.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.pr
def test_commands_use_the_account_of_a_saved_block(
    upload: Callable[..., str], service: RuntimeService, embedded: DiscoveryDocument
) -> None:
    block = RuntimeCredentials(channel="classic", url=embedded.url, token=embedded.token, proxies=PROXIES)
    block.save("cli-account", overwrite=True)
    job = service.run(upload(PUBLISHES), {"count": 1}, tags=["of-the-block"])
    assert json.loads(cli("result", job.job_id(), "--json", "--block", "cli-account").stdout)["count"] == 1
    listed = cli("jobs", "--tag", "of-the-block", "--block", "cli-account")
    assert job.job_id() in listed.stdout
    assert embedded.token not in listed.stdout + listed.stderr

    unknown = cli("jobs", "--block", "no-such-block")
    assert unknown.returncode == 1
    assert "no saved block 'no-such-block'" in unknown.stderr
    assert "Traceback" not in unknown.stderr


@pytest.mark.pr
def test_every_command_works_on_ibms_platform_too(
    upload: Callable[..., str], service: RuntimeService, embedded: DiscoveryDocument
) -> None:
    RuntimeCredentials(
        channel="ibm_quantum_platform",
        token=embedded.token,
        instance="embedded",
        url=f"{embedded.url}/api/v1",
        auth_url=embedded.url,
        proxies=PROXIES,
    ).save("cli-platform", overwrite=True)
    account = ("--block", "cli-platform")
    program = upload(PUBLISHES)
    done = service.run(program, {"count": 1}, tags=["of-the-platform"])
    done.result(timeout=60)
    at_work = service.run(program, {"count": 3000, "pause": 0.1}, tags=["of-the-platform"])

    (listed,) = json.loads(cli("jobs", "--tag", "of-the-platform", "--status", "DONE", "--json", *account).stdout)
    assert listed["id"] == done.job_id()
    assert json.loads(cli("show", done.job_id(), "--json", *account).stdout)["status"] == "DONE"
    assert json.loads(cli("result", done.job_id(), "--json", *account).stdout)["count"] == 1
    logs = cli("logs", done.job_id(), *account)
    assert (logs.returncode, logs.stdout) == (0, service.client.logs(done.job_id()))
    cancelled = cli("cancel", at_work.job_id(), *account)
    assert (cancelled.returncode, "CANCELLED" in cancelled.stdout) == (0, True)
    assert at_work.status().name == "CANCELLED"


@pytest.mark.parametrize("arguments", [("automation", "install"), ("automation", "remove"), ("reap",)])
def test_a_prefect_that_is_not_there_is_said_in_one_line(arguments: tuple[str, ...]) -> None:
    nowhere = os.environ | {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}
    command = [sys.executable, "-m", "prefect_runtime.cli", *arguments]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=nowhere)
    assert refused.returncode == 1
    assert "is PREFECT_API_URL right?" in refused.stderr
    assert "Traceback" not in refused.stderr
