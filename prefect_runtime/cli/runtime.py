"""``prefect-runtime serve | status | stop``: the embedded runtime as a server that one looks after by hand."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from prefect_runtime.cli import app
from prefect_runtime.cli.output import AsJson, Exit, print_json
from prefect_runtime.wire.environment import home
from prefect_runtime.wire.errors import ConfigurationError

if TYPE_CHECKING:
    from prefect_runtime.wire.discovery_file import DiscoveryDocument

STOP_SECONDS = 15.0
MAX_KEEP_DAYS = 36_500.0  # a century: from year 1 on there are days
MAX_DELAY_SECONDS = 31_536_000  # a year
MAX_GIBIBYTES = 1_048_576  # a pebibyte

DataDir = Annotated[
    Path | None, Parameter(help="The runtime's folder; the one that flows use by themselves if left out.")
]
IdleSeconds = Annotated[
    float | None,
    Parameter(validator=Number(gt=0), help="End after that long without request or job; never if left out."),
]

KeepDays = Annotated[float, Parameter(validator=Number(gt=0))]
KeepGigabytes = Annotated[float, Parameter(validator=Number(gt=0))]


@app.command
def serve(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65_535))] = 0,
    data_dir: DataDir = None,
    idle_seconds: IdleSeconds = None,
    slots: Annotated[int, Parameter(validator=Number(gte=1, lte=256))] = os.cpu_count() or 1,
    queue_delay: Annotated[list[str] | None, Parameter(negative=())] = None,
    token_seconds: Annotated[float, Parameter(validator=Number(gt=0, lte=MAX_DELAY_SECONDS))] = 3600.0,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    allow_host: Annotated[list[str] | None, Parameter(negative=())] = None,
    program_memory: Annotated[float | None, Parameter(validator=Number(gt=0, lte=MAX_GIBIBYTES))] = None,
    same_user: Annotated[bool, Parameter(negative=())] = False,
    keep_days: KeepDays = 90.0,
    keep_gigabytes: KeepGigabytes = 10.0,
    show_qiskit: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Serve the embedded runtime until stopped; prints READY and its address once it answers.

    Parameters
    ----------
    host
        Address to listen on; beyond this machine only with TLS.
    port
        Port to listen on; 0 takes a free one.
    slots
        Jobs that run at the same time.
    queue_delay
        BACKEND=SECONDS, may be given again: how long its jobs stay in the queue at least, to rehearse one.
    token_seconds
        How long access tokens for IBM's client are good, to rehearse their expiry.
    tls_certificate
        File with this server's certificate, for https; clients name it, or who signed it, as what they verify.
    tls_key
        File with the certificate's private key.
    allow_host
        Name under which clients ask for this server, may be given again; addresses and this machine's name are known.
    program_memory
        GiB that each process of an uploaded program may take; what is free if left out.
    same_user
        Run uploaded programs as root where this is root; else they get a user of their own.
    keep_days
        Days after its end that a job is kept, with its log and result; inf keeps it.
    keep_gigabytes
        Size of all ended jobs together; beyond it the oldest are removed, those of the last hour never; inf: no limit.
    show_qiskit
        Print what users of qiskit-ibm-runtime have to set to get here.
    """
    from prefect_runtime.local.cells import Limits
    from prefect_runtime.local.launcher import Settings, require_simulators
    from prefect_runtime.local.launcher import serve as serve_runtime
    from prefect_runtime.local.retention import Keep

    require_simulators()
    folder = _folder(data_dir)
    settings = Settings(
        data_dir=folder,
        host=host,
        port=port,
        idle_seconds=idle_seconds,
        slots=slots,
        delays=_delays(queue_delay or []),
        token_seconds=token_seconds,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        allow_hosts=tuple(allow_host or ()),
        limits=Limits(memory=None if program_memory is None else int(program_memory * 1024**3)),
        same_user=same_user,
        keep=Keep(days=_days(keep_days), gigabytes=None if math.isinf(keep_gigabytes) else keep_gigabytes),
    )
    serve_runtime(settings, on_ready=_show_qiskit if show_qiskit else None)


def _days(given: float) -> float | None:
    if math.isinf(given):
        return None
    if given > MAX_KEEP_DAYS:
        raise ConfigurationError(f"keep-days: at most {MAX_KEEP_DAYS:g}, or inf to keep every job.")
    return given


def _delays(given: list[str]) -> dict[str, float]:
    from prefect_runtime.local.backends import spec_of

    delays: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            seconds = float(number)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= MAX_DELAY_SECONDS:
            raise ConfigurationError(f"queue-delay: {text!r} is not BACKEND=SECONDS, with {MAX_DELAY_SECONDS} at most.")
        delays[spec_of(name).name] = seconds
    return delays


QISKIT = """\
# What qiskit-ibm-runtime needs to come here instead of IBM Quantum Platform:
export IAM_URL={url} GLOBAL_SEARCH_URL={url} GLOBAL_CATALOG_URL={url}/api/v1

# and in Python:
import json
from qiskit_ibm_runtime import QiskitRuntimeService

service = QiskitRuntimeService(
    channel="ibm_quantum_platform",
    token=json.load(open("{file}"))["token"],
    instance="{crn}",
    url="{url}",
    url_resolver=lambda url, *_: url + "/api/v1",
)
"""


def _show_qiskit(found: DiscoveryDocument, folder: Path) -> None:
    from prefect_runtime.local.platform import instance_crn

    print(QISKIT.format(url=found.url, file=folder / "runtime.json", crn=instance_crn(found.token)), flush=True)  # noqa: T201


def _folder(given: Path | None) -> Path:
    return (given or home()).expanduser().absolute()  # a shell leaves the ~ of `--data-dir=~/x` to us


@app.command
def status(*, data_dir: DataDir = None, as_json: AsJson = False) -> int:
    """Say whether the embedded runtime is running, and where. Exit code 3 if it is not."""
    from prefect_runtime.client import discovery

    folder = _folder(data_dir)
    found = discovery.find(folder, any_protocol=True)
    if as_json:
        where = {"url": found.url, "pid": found.pid, "protocol": found.protocol} if found else {}
        print_json({"running": found is not None, "data_dir": str(folder), **where})
        return Exit.OK if found else Exit.NOT_THERE
    console = Console()
    if found is None:
        console.print(f"Not running. A flow starts it when it needs it. Folder: {folder}", soft_wrap=True)
        return Exit.NOT_THERE
    console.print(f"Running at {found.url}, pid {found.pid}. Folder: {folder}", soft_wrap=True)
    return 0


@app.command
def stop(*, data_dir: DataDir = None) -> int:
    """Stop the embedded runtime. Queued jobs stay queued for its next start. Exit code 3 if it was not running."""
    from prefect_runtime.client import discovery
    from prefect_runtime.client.retry import Deadline

    folder = _folder(data_dir)
    found = discovery.find(folder, any_protocol=True)
    console = Console()
    if found is None:
        console.print("Not running.")
        return Exit.NOT_THERE
    os.kill(found.pid, signal.SIGTERM)
    deadline = Deadline(STOP_SECONDS)
    while discovery.is_served(folder):  # its programs are ended by then, and another can start
        if deadline.expired:
            console.print(f"Still running after {STOP_SECONDS:g} s: pid {found.pid}.")
            return 1
        deadline.clock.sleep(0.05)
    console.print("Stopped.")
    return 0
