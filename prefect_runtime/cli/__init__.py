"""The command line, ``prefect-runtime``. One file per group of commands; starts without Prefect and without Qiskit.

Commands import what talks to a runtime when they run: ``--help`` and a typing error answer without it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from prefect_runtime.cli.output import EXIT_HELP, Exit, exit_for
from prefect_runtime.wire.errors import IBMQError

app = App(
    name="prefect-runtime",
    help=f"Look after quantum runtime jobs, and run the embedded runtime.\n\n{EXIT_HELP}",
    help_format="plaintext",  # the others import a Markdown parser: a tenth of the time that a start takes
    version_flags=["--version"],
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; an error of ours is a line on standard error and an exit code (`Exit`).

    Args:
        arguments: The command line without the program's name; this process's own if None.
    """
    # They register their commands, and stand in the help in this order.
    from prefect_runtime.cli import automation, jobs, logs, programs, reap, recalibrate, result, runtime  # noqa: F401

    try:
        # Version 4 of cyclopts ends with 1 after a wrong usage, version 5 with 2.
        app(sys.argv[1:] if arguments is None else list(arguments), exit_on_error=False)
    except CycloptsError:
        sys.exit(Exit.USAGE)  # cyclopts has said what is wrong
    except IBMQError as error:
        sys.stderr.write(f"prefect-runtime: {error}\n")
        sys.exit(exit_for(error))
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            raise
        if error.errno != errno.EPIPE:  # not `prefect-runtime logs JOB | head`: a disk took half of it, or nothing
            sys.stderr.write(f"prefect-runtime: the output could not be written ({error.strerror}).\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes, and would complain once more
        sys.exit(Exit.ERROR)
