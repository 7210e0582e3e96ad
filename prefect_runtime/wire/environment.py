"""What of a caller's environment the embedded runtime and its programs may see: no token, no PREFECT_ setting."""

from __future__ import annotations

from collections.abc import Mapping

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


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that a runtime started from it gets: an allow-list, so that nothing leaks."""
    return {name: value for name, value in environment.items() if name in _NAMES or name.startswith("LC_")}
