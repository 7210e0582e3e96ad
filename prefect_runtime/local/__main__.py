"""``python -m prefect_runtime.local DATA_DIR IDLE_SECONDS``: how a client starts the embedded runtime."""

from __future__ import annotations

import sys
from pathlib import Path

from prefect_runtime.local.launcher import Settings, require_simulators, serve
from prefect_runtime.wire.errors import ConfigurationError

if __name__ == "__main__":
    data_dir, idle_seconds = sys.argv[1:]
    try:
        require_simulators()
        serve(Settings(data_dir=Path(data_dir), idle_seconds=float(idle_seconds)))
    except ConfigurationError as error:
        sys.exit(str(error))
