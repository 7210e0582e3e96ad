"""PUBs of workers that have no Qiskit: circuits as OpenQASM 3 text, in the terms of the backend already.

Nothing can be transpiled or checked here; what can be had without Qiskit is the strict form of a PUB.

Source: IBM's REST API 0.45.3 and ibm-quantum-schemas 0.13: a circuit may be a text, with ``support_qiskit: false``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefect_runtime.wire.errors import ConfigurationError


def sampler_pub(parts: Sequence[Any], shots: int, place: str) -> list[Any]:
    """Return ``[text, values, shots]``.

    Raises:
        ConfigurationError: A part that is no such thing; the message says where.
    """
    text, values, own = [*parts, None, None][:3]
    chosen = shots if own is None else own
    if isinstance(chosen, bool) or not hasattr(chosen, "__index__") or chosen <= 0:
        raise ConfigurationError(f"{place}: shots must be a whole number, at least 1; got {chosen!r}.")
    return [text, _values(values, place), int(chosen)]


def estimator_pub(parts: Sequence[Any], precision: float | None, place: str) -> list[Any]:
    """Return ``[text, observables, values, precision]``; None for the last leaves it to the options.

    Raises:
        ConfigurationError: A part that is no such thing; the message says where.
    """
    text, observables, values, own = [*parts, None, None][:4]
    wanted = precision if own is None else own
    chosen = None if wanted is None else float(wanted)
    if chosen is not None and not (chosen > 0 and math.isfinite(chosen)):
        raise ConfigurationError(f"{place}: precision must be more than 0; got {chosen!r}.")
    return [text, _observables(observables, place), _values(values, place), chosen]


def _values(values: Any, place: str) -> Any:
    import numpy as np

    if isinstance(values, Mapping):
        raise ConfigurationError(
            f"{place}: without Qiskit, parameter values are an array in the order of the circuit's parameters, not a "
            "mapping by name."
        )
    try:
        array = np.zeros(0) if values is None else np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{place}: the parameter values are no array of numbers ({error}).") from None
    if not np.isfinite(array).all():
        raise ConfigurationError(f"{place}: a parameter value is nan or infinite.")
    return array


def _observables(value: Any, place: str) -> Any:
    if isinstance(value, str):
        return {value: 1.0}
    if isinstance(value, Mapping) and value:
        return {str(label): float(weight) for label, weight in value.items()}
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        return [_observables(one, place) for one in value]
    raise ConfigurationError(
        f"{place}: without Qiskit, an observable is a text such as 'ZZ', or a mapping from texts to weights."
    )
