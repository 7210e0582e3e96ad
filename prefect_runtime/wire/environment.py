"""What the environment says of the embedded runtime: where its folder is, and what its programs may see of the rest."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from prefect_runtime.wire.models import PROTOCOL

HOME_VARIABLE = "PREFECT_RUNTIME_HOME"

_NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
        "QISKIT_PARALLEL",
        "QISKIT_SETTINGS",
    }
)

MAX_TMPDIR_BYTES = 75
"""A longer path leaves no room for the socket by which processes are started: ``/pymp-xxxxxxxx/listener-xxxxxxxx``.

Source: CPython 3.11 to 3.13, multiprocessing/connection.py, `arbitrary_address`; Linux, unix(7): 107 bytes at most.
"""


def home() -> Path:
    """Return the embedded runtime's data folder.

    ``$PREFECT_RUNTIME_HOME`` is taken as it is. Without it there is one folder per interpreter under
    ``~/.local/state/prefect-runtime``: a runtime runs programs with the packages of the interpreter that started it.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    interpreter = hashlib.sha256(f"{sys.prefix} {sys.version} {PROTOCOL}".encode()).hexdigest()[:12]
    return Path.home() / ".local" / "state" / "prefect-runtime" / interpreter


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that a runtime started from it gets: an allow-list, so that no token leaks.

    A folder for temporary files whose path is too long to start processes from is left out: the system's own serves.
    """
    kept = {name: value for name, value in environment.items() if name in _NAMES or name.startswith("LC_")}
    if len(os.fsencode(kept.get("TMPDIR", ""))) > MAX_TMPDIR_BYTES:
        del kept["TMPDIR"]
    return kept
