"""What an import costs and what names there are: asked in processes of their own, where nothing is loaded yet."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import prefect_runtime

HEAVY = ["prefect", "qiskit", "qiskit_aer", "numpy", "fastapi", "uvicorn", "pydantic", "websocket", "websockets"]
PUBLIC = {
    "RuntimeCredentials", "run_program", "wait_for_final_state", "fetch_result", "fetch_logs", "stream_results",
    "job_status", "cancel_job", "run_sampler", "run_estimator", "execute", "retry_if_safe",
    "RuntimeProgram", "RuntimeProgramRun", "open_jobs", "cancel_on_rollback",
    "arun_program", "arun_sampler", "arun_estimator", "await_for_final_state", "afetch_result", "afetch_logs",
    "astream_results", "ajob_status", "acancel_job", "await_for_jobs", "aas_completed", "aiter_results", "aexecute",
    "runtime_session", "runtime_batch", "aruntime_session", "aruntime_batch", "aopen_jobs",
}  # fmt: skip
"""Names that people import."""

PUBLIC_CLIENT = {"RuntimeService", "RuntimeJob", "RuntimeClient", "Credentials", "ResultDecoder", "JobStatus"}


def python(script: str, home: Path) -> str:
    """Run a script where nothing of ours is loaded, with a Prefect home of its own; return what it prints."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def loaded_by(statement: str, home: Path) -> set[str]:
    """Return which of the heavy packages a statement loads."""
    return set(python(f"import sys\n{statement}\nprint(*({set(HEAVY)!r} & set(sys.modules)))", home).split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import prefect_runtime", set()),
        ("import prefect_runtime.client", set()),
        ("from prefect_runtime.client import RuntimeService, Credentials; RuntimeService(Credentials())", set()),
        ("import prefect_runtime.wire.codec, prefect_runtime.wire.models", set()),
        ("from prefect_runtime.wire.codec import encode_inputs; encode_inputs({'a': [1, 2.5, {1j}]})", set()),
        ("import prefect_runtime.local.launcher", set(HEAVY) - {"prefect", "qiskit", "qiskit_aer", "numpy"}),
        ("import prefect_runtime.blocks", set(HEAVY) - {"qiskit", "qiskit_aer", "numpy"}),
        ("from prefect_runtime import RuntimeCredentials", set(HEAVY) - {"qiskit", "qiskit_aer", "numpy"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, allowed: set[str], tmp_path: Path) -> None:
    assert loaded_by(statement, tmp_path) - allowed == set()


def test_the_check_sees_what_is_loaded(tmp_path: Path) -> None:
    assert loaded_by("import qiskit, prefect", tmp_path) >= {"qiskit", "numpy", "prefect", "pydantic"}


def test_every_name_of_the_design_is_there_and_comes_from_its_home(tmp_path: Path) -> None:
    script = f"""
import warnings
warnings.simplefilter("ignore")
import prefect_runtime
for name in {sorted(PUBLIC)!r}:
    value = getattr(prefect_runtime, name)
    assert value is not None and prefect_runtime.__getattr__(name) is value, name
print("all there")
"""
    assert python(script, tmp_path) == "all there"


def test_the_lists_of_names_agree_with_one_another() -> None:
    source = Path(prefect_runtime.__file__).read_text()
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    typed = {
        alias.name: str(statement.module).rpartition(".")[2]
        for block in blocks
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert set(prefect_runtime.__all__) == set(prefect_runtime._HOMES) == set(typed)
    assert typed == prefect_runtime._HOMES
    assert prefect_runtime.__all__ == sorted(prefect_runtime.__all__)
    assert set(prefect_runtime.__all__) >= PUBLIC


def test_dir_shows_the_lazy_names_and_no_other_is_found() -> None:
    assert set(dir(prefect_runtime)) >= {*PUBLIC, "__doc__", "__all__"}
    with pytest.raises(AttributeError, match=r"prefect_runtime.*nonsense"):
        prefect_runtime.nonsense  # noqa: B018
    with pytest.raises(ImportError):
        exec("from prefect_runtime import nonsense")
    assert not hasattr(prefect_runtime, "__path_that_is_not_there__")


def test_the_clients_names_are_those_of_the_design() -> None:
    client = importlib.import_module("prefect_runtime.client")
    assert set(client.__all__) == PUBLIC_CLIENT
    assert all(getattr(client, name).__name__ == name for name in PUBLIC_CLIENT)
