"""The blocks. The entry point `prefect.collections` names this package, so that importing it makes both known.

A server that has the package installed registers them at start, and `Block.load("quantum-runtime-program/NAME")` finds
them without an import. It stays cheap: no task is loaded, no Qiskit.

    credentials   credentials and the backend choice: what tasks take
    program       a program with its inputs, for people who use Prefect's job blocks; stands on the tasks
    known_fields  refuses a field that a block does not have
"""

from prefect_runtime.blocks.credentials import CredentialsLike, RuntimeCredentials, load_credentials
from prefect_runtime.blocks.program import RuntimeProgram, RuntimeProgramRun

__all__ = ["CredentialsLike", "RuntimeCredentials", "RuntimeProgram", "RuntimeProgramRun", "load_credentials"]
