"""The program ``executor``: quantum programs of IBM's client-side primitives, on Qiskit's Aer. Needs the extra ``ibm``.

IBM's own code reads the parameters and simulates them (it does the same for its local testing mode); what is ours is
the form of the answer. Circuits of a program run as they are, with the noise of the backend and none that is injected.

Source: `qiskit_ibm_runtime.fake_provider.executor` 0.51; ibm-quantum-schemas 0.13, executor/version_2_0.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any


def main(backend: Any, user_messenger: Any, **params: Any) -> Any:
    """Return what the service returns for a quantum program: data by item, timing, and what was to be passed through.

    Publishes ``{"items": count}`` when all items have run.

    Args:
        backend: An `ExactSimulator`.
        user_messenger: Streams interim results with ``publish(value)``.
        params: ``schema_version`` ("v2.0"), ``quantum_program`` and ``options``.

    Raises:
        ValueError: Another version of the schema, or parameters that it does not allow.
    """
    from ibm_quantum_schemas.executor import version_2_0 as schema
    from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
    from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
    from qiskit_ibm_runtime.quantum_program.params_converters import QUANTUM_PROGRAM_PARAMS_CONVERTERS

    version = params.get("schema_version")
    if version != "v2.0":
        raise ValueError(f"schema_version: the embedded runtime reads v2.0, not {version!r}.")
    converter = QUANTUM_PROGRAM_PARAMS_CONVERTERS[version]
    model = converter.model.model_validate(params)
    program, _ = converter.decoder(model)
    for item in program.items:
        if hasattr(item, "samplex"):
            item.samplex.finalize()  # what comes from JSON is not yet
    start = dt.datetime.now(dt.UTC)
    result = run_quantum_program(backend, program, SimulatorOptions())
    span = {"start": start, "stop": dt.datetime.now(dt.UTC), "parts": _parts(program)}
    user_messenger.publish({"items": len(program.items)})
    answer = schema.QuantumProgramResultModel.model_validate(
        {
            "schema_version": version,
            "data": [{"results": _tensors(item), "metadata": {}} for item in result],
            "metadata": {"chunk_timing": [span]},
            "passthrough_data": model.quantum_program.passthrough_data,
            "semantic_role": model.quantum_program.semantic_role,
        }
    )
    return answer.model_dump(mode="json")


def _tensors(item: Any) -> dict[str, Any]:
    import numpy as np
    from ibm_quantum_schemas.common import CompressedTensorModel

    return {name: CompressedTensorModel.from_numpy(np.asarray(value)) for name, value in dict(item).items()}


def _parts(program: Any) -> list[dict[str, Any]]:
    """Return that all of each item ran in the one chunk there is."""
    parts = []
    for index, item in enumerate(program.items):
        size = math.prod(item.shape)
        order = list(range(len(item.shape)))
        parts.append({"idx_item": index, "size": size, "permutation": order, "element_range": (0, size, 1)})
    return parts
