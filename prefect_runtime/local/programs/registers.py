"""Classical registers whose bits do not lie side by side in a circuit. Only sampler.py imports this.

Qiskit takes a register for the bits that follow its first one in the circuit (2.6, `_analyze_circuit` of
`BackendSamplerV2`, which Aer's uses too). Of a register made of bits picked here and there, or of some that another
has as well, it returns other bits than its own, and nothing says so.
"""

from __future__ import annotations

from typing import Any


def with_all_bits(pub: Any) -> tuple[Any, str | None]:
    """Return a `SamplerPub` that has one more register, of all bits in order, and its name (None: no need)."""
    circuit = pub.circuit
    if all(_is_plain(circuit, register) for register in circuit.cregs):
        return pub, None
    from qiskit.circuit import ClassicalRegister
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    every = ClassicalRegister(bits=list(circuit.clbits), name="every_bit")
    while any(register.name == every.name for register in circuit.cregs):
        every = ClassicalRegister(bits=list(circuit.clbits), name=every.name + "_")
    circuit = circuit.copy()
    circuit.add_register(every)
    return SamplerPub(circuit, pub.parameter_values, pub.shots), every.name


def with_own_bits(result: Any, circuit: Any, every: str) -> Any:
    """Return a `SamplerPubResult` with each register of a circuit made of its own bits, out of the one of all bits."""
    from qiskit.primitives.containers import DataBin, SamplerPubResult

    bits = result.data[every]
    own = {
        register.name: result.data[register.name]
        if _is_plain(circuit, register)
        else bits.slice_bits(_places(circuit, register))
        for register in circuit.cregs
    }
    return SamplerPubResult(DataBin(**own, shape=result.data.shape), metadata=result.metadata)


def _is_plain(circuit: Any, register: Any) -> bool:
    places = _places(circuit, register)
    return places == list(range(places[0], places[0] + len(places))) if places else True


def _places(circuit: Any, register: Any) -> list[int]:
    return [circuit.find_bit(bit).index for bit in register]
