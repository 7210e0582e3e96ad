"""Writes golden/*.json with qiskit-ibm-runtime's own encoder, the other side of the contract.

In a virtual environment of its own, because its pins are not ours::

    python -m venv /tmp/golden && /tmp/golden/bin/pip install 'qiskit-ibm-runtime==0.51.*'
    /tmp/golden/bin/python tests/wire/make_golden.py [NAME ...]

Each file says where it came from. The values are here, so that test_golden.py encodes the same ones.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import qiskit
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import DataBin, PrimitiveResult, PubResult, SamplerPubResult
from qiskit.primitives.containers import BitArray
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Pauli, PauliList, SparsePauliOp

GOLDEN = Path(__file__).parent / "golden"


def bell() -> QuantumCircuit:
    """Return a circuit with a fixed name: an automatic one counts up."""
    circuit = QuantumCircuit(2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    return circuit


def measured() -> QuantumCircuit:
    circuit = bell()
    circuit.measure_all()
    return circuit


def branching() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 1, name="branching")
    circuit.measure(0, 0)
    circuit.if_test((0, 1), QuantumCircuit(1, name="then"), [1], [])
    return circuit


def rotated() -> QuantumCircuit:
    """A parameter carries a random uuid into QPY: its bytes never are the same twice."""
    circuit = QuantumCircuit(1, name="rotated")
    circuit.rx(Parameter("a"), 0)
    return circuit


def bits() -> BitArray:
    return BitArray(np.array([[1], [2], [0]], dtype=np.uint8), 2)


def result() -> PrimitiveResult[PubResult]:
    sampled = SamplerPubResult(DataBin(c=bits(), shape=()), {"shots": 3})
    estimated = PubResult(DataBin(evs=np.array([0.5, -1.0]), stds=np.zeros(2), shape=(2,)), {"target_precision": 0.1})
    return PrimitiveResult([sampled, estimated], {"version": 2, "when": dt.datetime(2024, 1, 2)})


VALUES: dict[str, Callable[[], Any]] = {
    "plain": lambda: {"text": "é ☃", "numbers": [1, -0.0, 1e300], "none": None, "tuple": (1, 2), "key": {1: True}},
    "not_finite": lambda: [float("inf"), float("-inf"), complex(1, float("inf"))],
    "complex": lambda: [1 + 2j, -0.5j],
    "datetime": lambda: [dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC), dt.datetime(2024, 1, 2), dt.date(2024, 1, 2)],
    "set": lambda: {7},
    "int64": lambda: [np.int64(3), np.float64(0.1)],
    "ndarray": lambda: [
        np.arange(6.0).reshape(2, 3),
        np.array(5, dtype=np.int32),
        np.zeros((0, 2), dtype=bool),
        np.array([1 + 2j]),
        np.asfortranarray(np.arange(4).reshape(2, 2)),
    ],
    "ndarray_object": lambda: np.array([None, "a", {"b": 1}], dtype=object),
    "circuit": lambda: {"circuits": [measured(), branching()]},
    "circuit_parameter": rotated,
    "sparse_pauli_op": lambda: SparsePauliOp(["XY", "ZI"], [0.5, -1j]),
    "pauli": lambda: Pauli("-iXYZ"),
    "pauli_list": lambda: PauliList(["XX", "-YZ"]),
    "sampler_pub": lambda: {"pubs": [SamplerPub.coerce(measured(), shots=7)], "version": 2},
    "estimator_pub": lambda: [EstimatorPub.coerce((bell(), [["ZZ"], [{"XX": 0.5}]]), precision=0.25)],
    "bit_array": bits,
    "data_bin": lambda: DataBin(zz=np.ones(2), aa=bits(), shape=()),
    "bindings_array": lambda: BindingsArray({("a", "b"): np.arange(12.0).reshape(2, 3, 2), "c": np.ones((2, 3))}),
    "observables_array": lambda: [ObservablesArray([["XX"], [{"ZZ": 0.5, "II": 2}]]), ObservablesArray("X")],
    "primitive_result": result,
}
"""What is encoded, by the name of its file."""


def spans() -> Any:
    """Return execution spans of every kind there is, as IBM's own classes."""
    from qiskit_ibm_runtime.execution_span import (
        DoubleSliceSpan,
        ExecutionSpans,
        SliceSpan,
        TwirledSliceSpan,
        TwirledSliceSpanV2,
    )

    def moment(second: int) -> dt.datetime:
        return dt.datetime(2026, 1, 2, 3, 4, second, tzinfo=dt.UTC)

    return ExecutionSpans(
        [
            DoubleSliceSpan(
                moment(0), moment(5), {0: ((3, 2, 10), slice(1, 4), slice(0, 7)), 2: ((9,), slice(0, 1), slice(2, 9))}
            ),
            SliceSpan(moment(5), moment(6), {1: ((2, 5), slice(3, 8))}),
            TwirledSliceSpan(moment(6), moment(8), {0: ((4, 3, 5), True, slice(2, 9), slice(1, 4))}),
            TwirledSliceSpan(moment(7), moment(8), {0: ((3, 4, 5), False, slice(2, 9), slice(1, 4))}),
            TwirledSliceSpanV2(moment(8), moment(9), {1: ((4, 2, 3, 5), True, slice(3, 20), slice(0, 5), 18)}),
        ]
    )


def answer_of_executor() -> Any:
    """Return what ``executor`` answers to the sampler of the client-side primitives, as IBM's own models write it."""
    from ibm_quantum_schemas.common import CompressedTensorModel
    from ibm_quantum_schemas.executor import version_2_0 as schema
    from qiskit_ibm_runtime.executor_sampler.prepare import prepare
    from qiskit_ibm_runtime.options_models.sampler import SamplerOptions
    from qiskit_ibm_runtime.quantum_program.converters.converters_2_0 import passthrough_data_to_2_0

    program, _ = prepare([SamplerPub.coerce(measured(), shots=3)], SamplerOptions())
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    part = {"idx_item": 0, "size": 1, "permutation": [], "element_range": (0, 1, 1)}
    rows = np.array([[True, False], [False, True], [False, False]])
    model = schema.QuantumProgramResultModel(
        data=[{"results": {"meas": CompressedTensorModel.from_numpy(rows)}, "metadata": {}}],
        metadata={"chunk_timing": [{"start": moment, "stop": moment, "parts": [part]}]},
        passthrough_data=passthrough_data_to_2_0(program.passthrough_data),
        semantic_role="sampler_v2",
    )
    return model.model_dump(mode="json")


IBMS_OWN: dict[str, Callable[[], Any]] = {"execution_spans": spans, "executor_sampler": answer_of_executor}
"""What only IBM's client has classes for: read by ours into classes of its own, or with IBM's decoders."""


def main() -> None:
    """Write the files, or only those that are named."""
    import qiskit_ibm_runtime
    from qiskit_ibm_runtime.json import RuntimeEncoder

    GOLDEN.mkdir(exist_ok=True)
    versions = {
        "qiskit_ibm_runtime": qiskit_ibm_runtime.__version__,
        "qiskit": qiskit.__version__,
        "numpy": np.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    chosen = sys.argv[1:] or [*VALUES, *IBMS_OWN]
    for name in chosen:
        table = "VALUES" if name in VALUES else "IBMS_OWN"
        make = (VALUES | IBMS_OWN)[name]
        origin = f"json.dumps({table}[{name!r}](), cls=qiskit_ibm_runtime.RuntimeEncoder), by tests/wire/make_golden.py"
        golden = {"origin": origin, "versions": versions, "text": json.dumps(make(), cls=RuntimeEncoder)}
        (GOLDEN / f"{name}.json").write_text(json.dumps(golden, indent=2) + "\n")


if __name__ == "__main__":
    main()
