"""What is classical in a circuit: bits, conditions, expressions, parameters. Used by fingerprint.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qiskit.circuit import ClassicalRegister, Clbit, Duration, Parameter, ParameterExpression, QuantumCircuit
from qiskit.circuit.classical import expr

from prefect_runtime.client.fingerprint import UnfitValueError, atom, encode, text, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What names mean in one circuit: the top one, a body or a definition."""

    bits: Mapping[Any, int]
    """Qubits and clbits by their index in the circuit, or for a body in the circuit around it."""
    loops: Mapping[Parameter, int] = field(default_factory=dict)
    """Parameters of the for loops around: by nesting, because Qiskit invents their names."""
    depth: int = 0


def bits(operands: Iterable[Any], scope: Scope, *, ordered: bool = True) -> bytes:
    """Return bits as the circuit around numbers them; sorted if their order is an accident.

    Raises:
        UnfitValueError: One is not the circuit's.
    """
    try:
        indices = [scope.bits[bit] for bit in operands]
    except KeyError:
        raise UnfitValueError("uses a bit that the circuit does not have") from None
    return text("bits", ",".join(map(str, indices if ordered else sorted(indices))))


def variables(circuit: QuantumCircuit) -> Iterable[bytes]:
    """Yield the classical variables that a circuit declares or takes from outside; within one, their names differ."""
    declared = (circuit.iter_input_vars(), circuit.iter_captured_vars(), circuit.iter_declared_vars())
    for names in declared:
        yield atom("vars", b"".join(sorted(text("var", v.name) + _type(v.type) for v in names)))
    for stretches in (circuit.iter_captured_stretches(), circuit.iter_declared_stretches()):
        yield atom("stretches", b"".join(sorted(text("str", stretch.name) for stretch in stretches)))


def condition(value: Any, scope: Scope) -> bytes:
    """Return what is asked: an expression, a bit or register, or one of these and the number it is to equal."""
    if isinstance(value, expr.Expr):
        return expression(value, scope)
    if isinstance(value, tuple):
        target, number = value
        return atom("equals", condition(target, scope) + text("int", format(int(number), "x")))
    return bits([value] if isinstance(value, Clbit) else value, scope)


def expression(root: Any, scope: Scope) -> bytes:
    """Return a tree of classical expressions, each node before its children; a node's kind says how many it has."""
    parts, waiting = [], [root]
    while waiting:  # not recursive: a parity of 127 bits is 126 levels deep
        node = waiting.pop()
        head = text("kind", type(node).__name__) + _type(node.type)
        parts.append(atom("expr", head + _expression_content(node, scope)))
        waiting += [getattr(node, child) for child in reversed(_CHILDREN.get(type(node), ()))]
    return atom("tree", b"".join(parts))


_CHILDREN: dict[type, tuple[str, ...]] = {
    expr.Unary: ("operand",),
    expr.Binary: ("left", "right"),
    expr.Cast: ("operand",),
    expr.Index: ("target", "index"),
}


def _expression_content(node: Any, scope: Scope) -> bytes:
    match node:
        case expr.Var(var=Clbit() | ClassicalRegister()):
            return condition(node.var, scope)
        case expr.Var() | expr.Stretch():
            return text("str", node.name)
        case expr.Value():
            return _literal(node.value)
        case expr.Unary() | expr.Binary():
            return text("op", node.op.name)
        case expr.Cast() | expr.Index():
            return b""
    raise unknown(node)


def _literal(value: Any) -> bytes:
    if isinstance(value, Duration):
        return atom("duration", text("unit", value.unit()) + encode(value.value(), 0))
    return encode(value, 0)


def _type(kind: Any) -> bytes:
    return text("type", f"{type(kind).__name__} {getattr(kind, 'width', '')}")


def parameter_expression(value: ParameterExpression, loops: Mapping[Parameter, int]) -> bytes:
    """Return a parameter expression as the operations it was made with, which is how Qiskit stores it in QPY.

    Its text would lose brackets and confuse a parameter named "a + b" with a sum; a fully bound one is its number.
    """
    if isinstance(value, Parameter):
        if value in loops:
            return text("loop-parameter", str(loops[value]))
        return text("parameter", value.name)
    if not value.parameters:
        return encode(value.numeric(), 0)
    bound = [parameter for parameter in value.parameters if parameter in loops]
    if len(bound) > 1:
        # Qiskit orders a sum by name, and names of loop parameters are counters of this process.
        stand_ins = {parameter: Parameter(f"_loop_i_{loops[parameter]:09}") for parameter in bound}
        loops = {**loops, **{stand_in: loops[parameter] for parameter, stand_in in stand_ins.items()}}
        value = value.subs(stand_ins)
    return atom("formula", b"".join(_formula_step(step, loops) for step in value._qpy_replay))


def _formula_step(step: Any, loops: Mapping[Parameter, int]) -> bytes:
    def operand(item: Any) -> bytes:
        if isinstance(item, ParameterExpression):
            return parameter_expression(item, loops)
        return encode(item, 0)  # None: the result of an earlier step

    if (binds := getattr(step, "binds", None)) is not None:  # Qiskit 2.0 keeps substitutions as steps
        return atom("substitute", b"".join(sorted(operand(old) + operand(new) for old, new in binds.items())))
    return atom("step", text("op", str(step.op)) + operand(step.lhs) + operand(step.rhs))
