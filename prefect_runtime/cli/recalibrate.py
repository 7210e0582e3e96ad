"""``prefect-runtime recalibrate``: new calibration numbers, for trying flows that react to them."""

from __future__ import annotations

from prefect_runtime.cli import app
from prefect_runtime.cli.account import folder_of
from prefect_runtime.cli.output import AsJson, NotRunningError, facts, print_json
from prefect_runtime.cli.runtime import DataDir


@app.command
def recalibrate(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Have the running embedded runtime's noisy backends draw new calibration numbers, as after a tune-up.

    For tests of flows that look at a backend's properties. Exit code 3 if it is not running.
    """
    from prefect_runtime.client import Credentials, RuntimeService, discovery

    folder = folder_of(data_dir)
    found = discovery.find(folder)
    if found is None:
        raise NotRunningError(f"The embedded runtime is not running. Folder: {folder}")
    with RuntimeService(Credentials(channel="local", url=found.url, token=found.token)) as service:
        number = service.client.recalibrate()
    if as_json:
        print_json({"calibration": number})
        return
    facts().print(f"Calibration {number}.")
