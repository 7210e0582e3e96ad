"""Qiskit's values in a fingerprint. Only client/fingerprint.py imports this, and only when one is met.

A circuit is walked as it was written; nothing is exported, simplified or transpiled. What counts as a difference:

- instructions: order, class, name, parameters, label (simulators choose noise by it and return saved data under it; a
  barrier's label is only drawn), operands as indices of the circuit's bits, control state, unit of a delay;
- classical registers: order, name and bits, because results carry them; quantum registers only name qubits, and do not;
- parameters by name, and the circuit's order of them, by which arrays of values are bound;
- definitions of custom gates, and bodies of control flow, whose bits are named by the outer circuit's indices: Qiskit's
  builder collects a body's bits in sets, so that their order in the body is an accident.

Not a difference: names of circuits (also where ``to_gate`` makes a gate's name of an automatic one), metadata, layout,
schedule, names that ``for_loop`` invents for its parameter, how parameter values are split over a `BindingsArray`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from qiskit.circuit import (
    CASE_DEFAULT,
    AnnotatedOperation,
    Barrier,
    BoxOp,
    BreakLoopOp,
    CircuitInstruction,
    ContinueLoopOp,
    ControlFlowOp,
    ControlledGate,
    Delay,
    ForLoopOp,
    Instruction,
    Measure,
    Parameter,
    ParameterExpression,
    ParameterVector,
    QuantumCircuit,
    Reset,
    Store,
    SwitchCaseOp,
    library,
)
from qiskit.circuit.classical import expr
from qiskit.primitives.containers import BitArray, DataBin, PrimitiveResult, PubResult
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Clifford, Pauli, PauliList, SparseObservable, SparsePauliOp

from prefect_runtime.client.circuits import expressions
from prefect_runtime.client.fingerprint import (
    MAX_DEPTH,
    UnfitValueError,
    atom,
    digest,
    encode,
    encode_at,
    encode_class,
    text,
    unknown,
)

_AUTOMATIC_NAME = re.compile(r"circuit-\d+(-\d+)?")
"""A counter per process, with the process's id in a child of multiprocessing (QuantumCircuit._name_update); gates made
of such a circuit take the name over, with something before or after it."""

_UNORDERED_OPERANDS = (ControlFlowOp, BreakLoopOp, ContinueLoopOp)
"""Their operands are a set of bits in the order in which Qiskit's builder happened to iterate over it."""

_COMPLETE: dict[type, tuple[str, ...]] = {
    Measure: (),
    Reset: (),
    Barrier: (),
    Delay: ("unit",),
    Store: (),
    BreakLoopOp: (),
    ContinueLoopOp: (),
    library.UnitaryGate: (),
    library.Initialize: (),
    library.StatePreparation: (),
    library.PauliGate: (),
    library.PermutationGate: (),
    library.LinearFunction: (),
    library.DiagonalGate: (),
    library.HamiltonianGate: (),
    library.Isometry: ("num_ancillas_zero", "num_ancillas_dirty", "_epsilon"),
    library.UCGate: ("up_to_diagonal",),
    library.UCPauliRotGate: ("rot_axes",),
    library.MCXGate: (),
    library.MCPhaseGate: (),
    library.QFTGate: (),
}
"""Classes that are what their name, width, parameters and these attributes say. Their definitions are not walked: they
are synthesised, which takes long and differs in the last bits between two machines' linear algebra."""

_BASE_ATTRIBUTES = frozenset(vars(Instruction("name", 1, 0, []))) | {
    *("base_gate", "_num_ctrl_qubits", "_ctrl_state", "_open_ctrl"),
    *("condition", "_condition", "_duration", "_unit"),
}
"""Attributes of every instruction or controlled gate: written on their own, or without meaning since Qiskit 2.0."""


def _circuit(circuit: QuantumCircuit, depth: int) -> bytes:
    return _Walk().circuit(circuit, depth)


class _Walk:
    """Writes one circuit; remembers the definitions it has seen, because a gate is often used many times."""

    def __init__(self) -> None:
        # The circuit is kept, so that its id is not given to another one while we walk.
        self._definitions: dict[int, tuple[QuantumCircuit, bytes]] = {}
        self._bound: set[Parameter] = set()

    def circuit(self, circuit: QuantumCircuit, depth: int) -> bytes:
        """Return the bytes of a circuit that stands on its own."""
        bits = _indices(circuit.qubits) | _indices(circuit.clbits)
        scope = expressions.Scope(bits=bits, depth=depth)
        registers = (text("creg", r.name) + expressions.bits(r, scope) for r in circuit.cregs)
        width = text("width", f"{circuit.num_qubits},{circuit.num_clbits}")
        contents = list(self._contents(circuit, scope))
        # Qiskit 2.0 counts parameters that a for loop binds among the circuit's.
        parameters = (text("str", p.name) for p in circuit.parameters if p not in self._bound)
        order = atom("parameters", b"".join(parameters))
        return digest("circuit", [width, atom("cregs", b"".join(registers)), order, *contents])

    def _contents(self, circuit: QuantumCircuit, scope: expressions.Scope) -> Iterable[bytes]:
        if scope.depth >= MAX_DEPTH:
            raise UnfitValueError(f"nested more than {MAX_DEPTH} levels deep (or contains itself)")
        yield self._value(".global_phase", circuit.global_phase, scope)
        yield from expressions.variables(circuit)
        for index, instruction in enumerate(circuit.data):
            try:
                yield self._instruction(instruction, scope)
            except UnfitValueError as error:
                error.path.append(f".data[{index}]")
                raise

    def _instruction(self, instruction: CircuitInstruction, scope: expressions.Scope) -> bytes:
        if instruction.is_standard_gate():  # without a Python object for each: three times as fast
            what = self._standard_gate(instruction, scope)
            return atom("do", what + expressions.bits(instruction.qubits, scope))
        operation = instruction.operation
        if isinstance(operation, ControlFlowOp):
            what = self._control_flow(instruction, scope)
        else:
            what = self._operation(operation, scope)
        ordered = not isinstance(operation, _UNORDERED_OPERANDS)
        sides = (instruction.qubits, instruction.clbits)
        qubits, clbits = (expressions.bits(side, scope, ordered=ordered) for side in sides)
        return atom("do", what + qubits + clbits)

    def _standard_gate(self, gate: Any, scope: expressions.Scope) -> bytes:
        return atom("gate", text("str", gate.name) + _label(gate) + self._params(gate.params, scope))

    def _operation(self, operation: Any, scope: expressions.Scope) -> bytes:
        if isinstance(operation, AnnotatedOperation):
            base = self._nested(".base_op", operation.base_op, scope)
            return atom("annotated", base + self._value(".modifiers", operation.modifiers, scope))
        if isinstance(operation, Clifford):
            return atom("clifford", self._value(".tableau", operation.tableau, scope))
        if not isinstance(operation, Instruction):
            raise unknown(operation)
        kind = operation.base_class  # without Qiskit's private subclasses for singletons
        parts = [
            encode_class(kind),
            text("str", _AUTOMATIC_NAME.sub("circuit", operation.name)),
            text("width", f"{operation.num_qubits},{operation.num_clbits}"),
            b"" if kind is Barrier else _label(operation),
            self._params(operation.params, scope),
        ]
        if isinstance(operation, ControlledGate):
            parts.append(text("control", f"{operation.num_ctrl_qubits},{operation.ctrl_state}"))
            parts.append(self._nested(".base_gate", operation.base_gate, scope))
        parts.append(self._inside(kind, operation, scope))
        return atom("operation", b"".join(parts))

    def _inside(self, kind: type, operation: Any, scope: expressions.Scope) -> bytes:
        """Return what an instruction is beyond its name, width and parameters."""
        if kind in _COMPLETE:
            return self._attributes({name: getattr(operation, name) for name in _COMPLETE[kind]}, scope)
        if kind is library.PauliEvolutionGate and (settings := _synthesis_settings(operation)) is not None:
            parts = {"operator": operation.operator, "settings": settings}
            return encode_class(operation.synthesis) + self._attributes(parts, scope)
        if (definition := operation.definition) is not None:
            return self._definition(definition, scope)
        # Opaque: all it says of itself is its whole name and its attributes (Aer's save instructions, for instance).
        attributes = {name: value for name, value in _state(operation).items() if name not in _BASE_ATTRIBUTES}
        return atom("opaque", text("str", operation.name) + self._attributes(attributes, scope))

    def _nested(self, step: str, operation: Any, scope: expressions.Scope) -> bytes:
        """Return the bytes of an operation that another one is made of."""
        if scope.depth >= MAX_DEPTH:
            raise UnfitValueError(f"nested more than {MAX_DEPTH} levels deep (or contains itself)")
        try:
            if isinstance(operation, Instruction) and CircuitInstruction(operation, (), ()).is_standard_gate():
                return self._standard_gate(operation, scope)
            return self._operation(operation, replace(scope, depth=scope.depth + 1))
        except UnfitValueError as error:
            error.path.append(step)
            raise

    def _definition(self, definition: QuantumCircuit, scope: expressions.Scope) -> bytes:
        known = self._definitions.get(id(definition))
        if known is not None and not scope.loops:
            return known[1]
        bits = _indices(definition.qubits) | _indices(definition.clbits)
        inner = replace(scope, bits=bits, depth=scope.depth + 1)
        try:
            written = digest("definition", self._contents(definition, inner))
        except UnfitValueError as error:
            error.path.append(".definition")
            raise
        if not scope.loops:
            self._definitions[id(definition)] = (definition, written)
        return written

    def _control_flow(self, instruction: CircuitInstruction, scope: expressions.Scope) -> bytes:
        operation = instruction.operation
        parts = [encode_class(operation), _label(operation)]
        inner = replace(scope, depth=scope.depth + 1)
        if isinstance(operation, ForLoopOp):
            indices, parameter, body = operation.params
            parts.append(encode(indices, scope.depth))
            # Qiskit binds the parameter itself, not another one of its name.
            if isinstance(parameter, Parameter) and parameter in body.parameters:
                inner = replace(inner, loops={**scope.loops, parameter: len(scope.loops)})
                self._bound.add(parameter)
                parts.append(atom("bound", b""))
            elif isinstance(parameter, expr.Var):
                parts.append(expressions.expression(parameter, scope))
        elif isinstance(operation, SwitchCaseOp):
            parts.append(expressions.condition(operation.target, scope))
            for values, _ in operation.cases_specifier():
                words = ("default" if value is CASE_DEFAULT else format(int(value), "x") for value in values)
                parts.append(text("case", ",".join(words)))
        elif isinstance(operation, BoxOp):
            parts += [self._value(".duration", operation.duration, scope), encode(operation.unit, scope.depth)]
            parts += [_annotation(item, scope.depth) for item in getattr(operation, "annotations", ())]
        else:  # if and while
            parts.append(expressions.condition(operation.condition, scope))
        for block in operation.blocks:
            around = (*instruction.qubits, *instruction.clbits)
            bits = {bit: scope.bits[outer] for bit, outer in zip((*block.qubits, *block.clbits), around, strict=True)}
            parts.append(digest("body", self._contents(block, replace(inner, bits=bits))))
        return atom("control-flow", b"".join(parts))

    def _params(self, params: Iterable[Any], scope: expressions.Scope) -> bytes:
        return atom("params", b"".join(self._value(".params", param, scope) for param in params))

    def _attributes(self, attributes: Mapping[str, Any], scope: expressions.Scope) -> bytes:
        parts = [text("str", name) + self._value(f".{name}", attributes[name], scope) for name in sorted(attributes)]
        return atom("attributes", b"".join(parts))

    def _value(self, step: str, value: Any, scope: expressions.Scope) -> bytes:
        if isinstance(value, float):
            return encode(value, scope.depth)
        if isinstance(value, ParameterExpression):
            return expressions.parameter_expression(value, scope.loops)
        if isinstance(value, expr.Expr):
            return expressions.expression(value, scope)
        return encode_at(step, value, scope.depth)


def _indices(bits: Iterable[Any]) -> dict[Any, int]:
    return {bit: index for index, bit in enumerate(bits)}


def _label(instruction: Any) -> bytes:
    label = instruction.label
    if label is None:
        return b""
    # Gate.power labels its matrix with the gate's name and exponent.
    return text("label", _AUTOMATIC_NAME.sub("circuit", label) if "^" in label else label)


def _synthesis_settings(gate: library.PauliEvolutionGate) -> Mapping[str, Any] | None:
    """Return the settings of a gate's synthesis; None if it cannot tell them, and the definition has to speak."""
    try:
        settings: Mapping[str, Any] = gate.synthesis.settings
    except NotImplementedError:
        return None
    return settings


def _state(value: Any) -> dict[str, Any]:
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})


def _annotation(annotation: Any, depth: int) -> bytes:
    state = encode_at(".annotations", _state(annotation), depth)
    return atom("annotation", encode_class(annotation) + text("str", annotation.namespace) + state)


def _bindings(value: BindingsArray, depth: int) -> bytes:
    names = sorted(name for group in value.data for name in group)
    array = value.as_array(names) if names else np.empty((*value.shape, 0))
    return atom("bindings", encode(names, depth) + encode(array, depth))


def _fields(tag: str, *names: str) -> Callable[[Any, int], bytes]:
    return lambda value, depth: atom(
        tag, b"".join(encode_at(f".{name}", getattr(value, name), depth) for name in names)
    )


def _sparse_observable(value: SparseObservable, depth: int) -> bytes:
    arrays = (value.coeffs, value.bit_terms, value.indices, value.boundaries)
    return atom("terms", encode([value.num_qubits, *map(np.array, arrays)], depth))


_WRITERS: tuple[tuple[type, Callable[[Any, int], bytes]], ...] = (
    (QuantumCircuit, _circuit),
    (ParameterExpression, lambda value, _: expressions.parameter_expression(value, {})),
    (ParameterVector, lambda value, depth: atom("vector", encode([value.name, len(value)], depth))),
    (SparsePauliOp, _fields("pauli-sum", "paulis", "coeffs")),
    (PauliList, _fields("paulis", "z", "x", "phase")),
    (Pauli, _fields("pauli", "z", "x", "phase")),
    (SparseObservable, _sparse_observable),
    (ObservablesArray, lambda value, depth: atom("observables", encode([value.shape, value.tolist()], depth))),
    (BindingsArray, _bindings),
    (SamplerPub, _fields("sampler-pub", "circuit", "parameter_values", "shots")),
    (EstimatorPub, _fields("estimator-pub", "circuit", "observables", "parameter_values", "precision")),
    # Results, which programs that work on them take.
    (BitArray, _fields("bits", "array", "num_bits")),
    (DataBin, lambda value, depth: atom("data", encode([value.shape, dict(value.items())], depth))),
    (PubResult, _fields("pub-result", "data", "metadata")),
    (PrimitiveResult, lambda value, depth: atom("result", encode([list(value), value.metadata], depth))),
)


def writer_of(value: Any) -> Callable[[Any, int], bytes] | None:
    """Return the function that writes a value of Qiskit's; None if its type is not known."""
    return next((writer for kind, writer in _WRITERS if isinstance(value, kind)), None)
