"""Which of Aer's methods runs a circuit: one that is exact, fits into the memory there is, and is quick. Loads Qiskit.

Aer's own choice ("automatic") is a good one where memory does not matter: ``stabilizer`` for Clifford circuits, with
noise and many shots ``density_matrix``, else ``statevector``. But it never takes ``matrix_product_state``, and it
checks against the memory that the machine has, not what is free. So narrow circuits are left to Aer, which costs
nothing, and the method of wide ones is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from qiskit import QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping

from prefect_runtime.local.programs.anatomy import Anatomy, anatomy
from prefect_runtime.local.programs.bonds import Chain
from prefect_runtime.local.programs.memory import CannotSimulateError, in_words

NARROW_QUBITS = 20
"""Ideal circuits up to this width are left to Aer: a state vector of 16 MiB."""

NARROW_NOISY_QUBITS = 10
"""Noisy circuits up to this width are left to Aer: a density matrix of 16 MiB."""

AUTOMATIC, CHAIN = "automatic", "matrix_product_state"

BYTES_PER_SHOT, BYTES_PER_BIT_OF_SHOT = 400, 3  # of measured bits, as texts and as arrays; measured, Aer 0.18.2

_BYTES_PER_AMPLITUDE = 16
_SECONDS_PER_AMPLITUDE = 2.5e-9  # for each gate; measured, Aer 0.18.2, one core
_SECONDS_PER_QUBIT_OF_SHOT = 12e-6  # sampling from a matrix product state
_SECONDS_PER_ENTRY_OF_SHOT = 4e-9

# Source: BASIS_GATES in qiskit_aer 0.18, backend_utils.
_DENSITY_MATRIX_GATES = frozenset((
    *("ccx", "cp", "cu1", "cx", "cy", "cz", "diagonal", "ecr", "h", "id", "p", "pauli", "r", "rx", "rxx", "ry", "ryy"),
    *("rz", "rzx", "rzz", "s", "sdg", "swap", "sx", "sxdg", "t", "tdg", "u", "u1", "u2", "u3", "unitary", "x", "y"),
    "z",
))  # fmt: skip
_CHAIN_GATES = _DENSITY_MATRIX_GATES - {"cu1"} | {"cswap", "csx"}
_DEFINITIONS_DEEP = 4  # ccz -> ccx; crx -> u1, cx, u3; deeper ones are not in a backend's basis

STANDARD_GATES = frozenset(get_standard_gate_name_mapping())


class Noise(StrEnum):
    """What a backend's errors are made of."""

    NONE = "no noise"
    CLIFFORD = "Pauli noise"
    GENERAL = "general noise"


@dataclass(frozen=True, slots=True)
class Choice:
    """A method of Aer's, why it was chosen, and the memory it may take, in bytes (0: not asked for)."""

    method: str
    reason: str
    free: int = 0


NARROW = Choice(AUTOMATIC, "so few qubits fit whatever method Aer takes")


@dataclass(frozen=True, slots=True)
class _Offer:
    method: str
    need: int
    seconds: float
    reason: str


def is_narrow(qubits: int, noise: Noise) -> bool:
    """Return whether circuits of this width can be left to Aer, whatever is in them."""
    return qubits <= (NARROW_QUBITS if noise is Noise.NONE else NARROW_NOISY_QUBITS)


def choose(circuits: Sequence[QuantumCircuit], *, shots: int, noise: Noise, memory: Callable[[], int]) -> Choice:
    """Choose the method for circuits that are run together.

    Args:
        circuits: The circuits; their parameters need no values.
        shots: How often each is measured.
        noise: The errors of their qubits.
        memory: Returns how many bytes the simulation may take; called only for wide circuits.

    Raises:
        CannotSimulateError: No exact method can run them in that memory.
    """
    every = [anatomy(circuit) for circuit in circuits]
    clifford = [parts.clifford and noise is not Noise.GENERAL for parts in every]
    widest = max(parts.qubits for parts in every)
    if is_narrow(widest, noise):
        return NARROW
    if all(clifford):
        return Choice("stabilizer", f"all gates on the {widest} qubits are Clifford gates")
    if all(one or is_narrow(parts.qubits, noise) for one, parts in zip(clifford, every, strict=True)):
        return Choice(AUTOMATIC, "each circuit is narrow, or all its gates are Clifford gates")
    free = memory()
    common: dict[str, _Offer] | None = None
    for circuit, parts in zip(circuits, every, strict=True):
        offers = _offers(circuit, parts, shots, noise)
        fitting = {offer.method: offer for offer in offers if offer.need <= free}
        if not fitting:
            raise CannotSimulateError(_refusal(parts, noise, offers, free))
        common = fitting if common is None else _joined(common, fitting)
    if not common:
        raise CannotSimulateError("no one method can simulate these circuits exactly here; run them one by one.")
    best = min(common.values(), key=lambda offer: offer.seconds)
    return Choice(best.method, best.reason, free)


def _joined(some: dict[str, _Offer], more: dict[str, _Offer]) -> dict[str, _Offer]:
    """Return what both circuits can be run with; the time is that of both."""
    both = some.keys() & more.keys()
    return {name: replace(some[name], seconds=some[name].seconds + more[name].seconds) for name in both}


def for_chain(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return the circuit with gates that Aer's matrix product states do not know written out in gates they know."""
    for _ in range(_DEFINITIONS_DEEP):
        names = {instruction.operation.name for instruction in circuit.data}
        foreign = [name for name in names if name in STANDARD_GATES and name not in _CHAIN_GATES]
        if not foreign:
            break
        circuit = circuit.decompose(gates_to_decompose=foreign)
    return circuit


def _offers(circuit: QuantumCircuit, parts: Anatomy, shots: int, noise: Noise) -> list[_Offer]:
    width = parts.qubits
    every_shot = noise is not Noise.NONE or not parts.samples
    runs = shots if every_shot else 1
    gates = len(parts.gates) + len(parts.branches) + 1
    amplitudes = 1 << width
    need = _BYTES_PER_AMPLITUDE * amplitudes
    seconds = _seconds(gates * runs, amplitudes)
    offers = [_Offer("statevector", need, seconds, f"the state of {width} qubits takes {in_words(need)}")]
    if noise is not Noise.NONE and parts.samples and parts.names <= _DENSITY_MATRIX_GATES:
        need = _BYTES_PER_AMPLITUDE * amplitudes**2
        why = f"the noisy state of {width} qubits takes {in_words(need)} and serves all {shots} shots"
        offers.append(_Offer("density_matrix", need, _seconds(gates, amplitudes**2), why))
    if not parts.names <= _CHAIN_GATES:
        parts = anatomy(for_chain(circuit))
    if parts.names <= _CHAIN_GATES:
        offers.append(_chain_offer(parts, shots, runs, every_shot=every_shot))
    return offers


def _seconds(gates: int, amplitudes: int) -> float:
    return gates * _SECONDS_PER_AMPLITUDE * min(amplitudes, 1 << 300)


def _chain_offer(parts: Anatomy, shots: int, runs: int, *, every_shot: bool) -> _Offer:
    chain = Chain(parts.qubits)
    for gate in parts.gates:
        chain.apply(gate.name, gate.qubits)
    if any(len(gate.qubits) > 1 for gate in parts.branches):
        chain.saturate()  # it may happen any number of times
    seconds = chain.seconds * runs
    if not every_shot:
        entries = 4.0 ** min(chain.widest, 300)
        seconds += shots * parts.qubits * (_SECONDS_PER_QUBIT_OF_SHOT + _SECONDS_PER_ENTRY_OF_SHOT * entries)
    dimension = f"2^{chain.widest}" if chain.widest > 10 else str(1 << chain.widest)
    why = f"its {parts.qubits} qubits are little entangled: bonds of at most {dimension}, {in_words(chain.bytes())}"
    # Twice: Aer samples from a copy.
    return _Offer(CHAIN, 2 * chain.bytes(), seconds, why)


def _refusal(parts: Anatomy, noise: Noise, offers: list[_Offer], free: int) -> str:
    needs = ", ".join(f"{in_words(offer.need)} as {offer.method}" for offer in offers)
    missing = sorted(parts.names - _CHAIN_GATES - STANDARD_GATES)
    why = ["" if parts.clifford else "it is no Clifford circuit"]
    if parts.clifford:
        why = [f"the backend has {noise}, which keeps no state a stabilizer state"]
    if missing:
        why.append(f"a matrix product state cannot be used with {', '.join(missing)}")
    return (
        f"the circuit cannot be simulated exactly here: it uses {parts.qubits} qubits and would need {needs}; "
        f"there are {in_words(free)} free. ({'; '.join(why)}.)"
    )


def check_results(*, bits: int, shots: int, memory: Callable[[], int]) -> None:
    """Refuse to measure more than there is memory for the results.

    Args:
        bits: Measured bits of one shot.
        shots: All shots together, over all sets of parameter values.
        memory: Returns how many bytes there are; called only when it could matter.

    Raises:
        CannotSimulateError: The results alone would not fit.
    """
    need = shots * (BYTES_PER_SHOT + BYTES_PER_BIT_OF_SHOT * bits)
    if need < 1 << 28:
        return
    free = memory()
    if need > free:
        raise CannotSimulateError(
            f"the results cannot be held here: {shots:,} shots of {bits} bits, over all sets of parameter values, need "
            f"about {in_words(need)}; there are {in_words(free)} free."
        )
