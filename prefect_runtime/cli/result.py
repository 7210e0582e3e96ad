"""``prefect-runtime result``: a job's result, for a person or, as the server gave it, for a program or a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prefect_runtime.cli import app
from prefect_runtime.cli.account import Account, open_service
from prefect_runtime.cli.output import Exit, Job, Timeout, exit_of, facts, say, write
from prefect_runtime.wire.codec import ResultDecoder
from prefect_runtime.wire.errors import ConfigurationError, RuntimeJobFailureError

if TYPE_CHECKING:
    from prefect_runtime.client import RuntimeJob


@app.command
def result(
    job: Job,
    /,
    *,
    timeout: Timeout = None,
    as_json: Annotated[
        bool,
        Parameter(
            name="--json", negative=(), show_default=False, help="Print the result's JSON as the server gave it."
        ),
    ] = False,
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), help="Write that JSON to a file that only you can read.")
    ] = None,
    account: Account | None = None,
) -> int:
    """Wait for a job and print its result.

    Exit code 4 if it failed, 5 if it was cancelled, 124 if it was not final in time.
    """
    from prefect_runtime.cli.watch import wait_for

    with open_service(account) as service:
        handle = service.handle(job)
        document = wait_for(service, handle, timeout=timeout)
        ended = exit_of(document)
        if ended is not Exit.OK:
            _say_why(handle)
            return ended
        if output is not None:
            # Opened first: a private job's result can be read once, and must not be lost to a full disk's error.
            with _written_whole(output) as file:
                file.write(_raw(handle))
            say(f"The result of job {job} is in {output}.")
        elif as_json:
            write(_raw(handle).rstrip("\n") + "\n")
        else:
            _print_readable(_raw(handle))
    return Exit.OK


class _Undecoded(ResultDecoder):
    @classmethod
    def decode(cls, data: str) -> str:
        """Return the text as it is."""
        return data


def _raw(job: RuntimeJob) -> str:
    text: str = job.result(decoder=_Undecoded)
    return text


def _print_readable(text: str) -> None:
    from prefect_runtime.cli.readable import pages

    console = facts()
    for page in pages(ResultDecoder.decode(text), console):
        console.print(page)


def _say_why(job: RuntimeJob) -> None:
    """Say in a line why there is no result: of a traceback, the last one."""
    error = job.failure()
    if not isinstance(error, RuntimeJobFailureError):
        say(f"prefect-runtime: {error}")
        return
    last = error.reason.strip().splitlines()[-1]
    say(f"prefect-runtime: Job {job.job_id()} has failed: {last} (`prefect-runtime show` has all of it.)")


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[IO[str]]:
    """Give a file to write to that takes the place of `path` at the end of the block, or never; mode 0600.

    Raises:
        ConfigurationError: It cannot be written.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigurationError(f"output: {path} cannot be written ({error.strerror}).") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
