"""How large a matrix product state can get, before it is computed. Only methods.py imports this.

A matrix product state stores one pair of matrices a qubit, as wide as the *bond dimension* between neighbours: a
measure of how entangled they are, which gates of two qubits can double and nothing can raise above what the smaller
side has room for. We follow Aer's algorithm (it swaps qubits until the two of a gate are neighbours) with these bounds
in the place of matrices; what comes out is never less than what the computation will need.

Aer has an estimate of its own (MPSSizeEstimator), which leaves ``cx`` and most other gates out, and so is not used.

Source: Qiskit Aer 0.18, src/simulators/matrix_product_state/matrix_product_state_internal.cpp (apply_2_qubit_gate,
apply_swap_internal, centralize_qubits), with the default ``mps_swap_direction``, left.
"""

from __future__ import annotations

from collections.abc import Sequence

# Gates that are a sum of two products of one-qubit operators: they double a bond at most. Others can quadruple it.
_DOUBLING = frozenset(
    {"cx", "cy", "cz", "ch", "cp", "cu1", "csx", "crx", "cry", "crz", "cu", "cu3", "ecr", "rxx", "ryy", "rzz", "rzx"}
)

_SECONDS_PER_CUBE = 4e-9  # one gate on a bond of dimension d: (2 d)^3 of these; measured, Aer 0.18.2, one core
_SECONDS_PER_GATE = 5e-6


class Chain:
    """Bounds for the bonds of a row of qubits, in bits: a bond of 3 bits has dimension 8 at most.

    Args:
        width: Number of qubits, at least 1.
    """

    def __init__(self, width: int) -> None:
        self._order = list(range(width))  # which qubit stands at each place
        self._place = list(range(width))  # and where each qubit stands
        self.bits = [0] * (width + 1)  # bond i is left of place i; the outer two are no bonds and stay 0
        self.seconds = 0.0

    def apply(self, name: str, qubits: Sequence[int]) -> None:
        """Account for a gate of any number of qubits."""
        if len(qubits) < 2 or name == "pauli":
            return
        places = sorted(self._place[qubit] for qubit in qubits)
        if name == "swap":
            self._swap_there_and_back(*places)
        elif len(places) == 2:
            self._move(places[1], places[0] + 1)
            self._raise(places[0] + 1, 1 if name in _DOUBLING else 2)
        else:
            self._apply_wide(places)

    def _apply_wide(self, places: Sequence[int]) -> None:
        middle = (len(places) - 1) // 2
        first = places[middle] - middle
        for index in (*range(middle, len(places)), *range(middle - 1, -1, -1)):
            self._move(places[index], first + index)
        last = first + len(places) - 1
        for index in range(1, len(places)):
            bond = first + index
            room = min(self.bits[first] + index, self.bits[last + 1] + len(places) - index)
            self.bits[bond] = min(self.bits[bond] + 2 * min(index, len(places) - index), room)
            self.seconds += _SECONDS_PER_GATE + _SECONDS_PER_CUBE * 8.0 ** min(self.bits[bond] + len(places), 300)

    def _move(self, place: int, to: int) -> None:
        """Move a qubit along the row, swap by swap."""
        step = 1 if to > place else -1
        for left in range(min(place, to), max(place, to))[::step]:
            self._raise(left + 1, 2)
            self._order[left], self._order[left + 1] = self._order[left + 1], self._order[left]
            self._place[self._order[left]], self._place[self._order[left + 1]] = left, left + 1

    def _swap_there_and_back(self, low: int, high: int) -> None:
        """A gate ``swap`` exchanges two qubits' states and leaves every qubit where it stands."""
        for left in (*range(low, high), *range(high - 2, low - 1, -1)):
            self._raise(left + 1, 2)

    def _raise(self, bond: int, bits: int) -> None:
        self.bits[bond] = min(self.bits[bond] + bits, self.bits[bond - 1] + 1, self.bits[bond + 1] + 1)
        self.seconds += _SECONDS_PER_GATE + _SECONDS_PER_CUBE * 8.0 ** (min(self.bits[bond], 300) + 1)

    def saturate(self) -> None:
        """Raise every bond to the most that its two sides have room for: for what cannot be followed gate by gate."""
        width = len(self._order)
        self.bits = [min(place, width - place) for place in range(width + 1)]
        self.seconds += width * _SECONDS_PER_CUBE * 8.0 ** min(width // 2, 300)

    @property
    def widest(self) -> int:
        """Bits of the largest bond."""
        return max(self.bits)

    def bytes(self) -> int:
        """Return what the state takes at most: two complex matrices a qubit, and room for one gate's decomposition."""
        state = sum(32 << (left + right) for left, right in zip(self.bits, self.bits[1:], strict=False))
        return state + (16 * 16 << 2 * self.widest)
