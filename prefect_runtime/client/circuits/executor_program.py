"""The client-side generation of primitives: IBM's own code builds a program for ``executor``, ours submits and waits.

IBM deprecates the server's ``sampler`` and ``estimator`` programs for primitives that do twirling, dynamical decoupling
and mitigation in the client, and send what is left to the program ``executor``. What is built has in it how its result
is put together again (wire/client_side.py), so that any process can do that. Needs the extra ``ibm``, whose version is
bounded: these are modules of IBM's that it moves. Used by primitives.py; IBM's package is imported on use.

Source: `qiskit_ibm_runtime.executor_sampler`, `executor_estimator` and `executor`, 0.51.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.errors import ConfigurationError

PROGRAM_ID = "executor"
SCHEMA_VERSION = "v2.0"  # Executor._SCHEMA_VERSION
_ROLES = {"sampler": "sampler_v2", "estimator": "estimator_v2"}


def build(program_id: str, pubs: Sequence[Any], options: Mapping[str, Any], backend: Backend) -> dict[str, Any]:
    """Return the parameters of ``executor`` for a primitive's PUBs: plain data.

    Args:
        program_id: "sampler" or "estimator".
        pubs: Qiskit's PUBs, their circuits in the backend's terms; all with the same shots or precision.
        options: The client-side primitive's options: twirling, dynamical_decoupling, resilience, resilience_level, ….
        backend: Where they will run; dynamical decoupling needs its durations.

    Raises:
        ConfigurationError: IBM's package is not there, or refuses PUBs or options.
    """
    _check_alike(program_id, pubs)
    try:
        from qiskit_ibm_runtime.exceptions import IBMInputValueError
        from qiskit_ibm_runtime.quantum_program.params_converters import QUANTUM_PROGRAM_PARAMS_CONVERTERS

        options_class, prepare = _parts(program_id)
    except ImportError as error:
        raise ConfigurationError(
            f"primitives: 'client' needs the extra ibm: pip install 'prefect-runtime[ibm]' ({error})."
        ) from None
    try:
        program, executor_options = prepare(pubs, options_class(**options), backend=backend)
        program._semantic_role = _ROLES[program_id]  # as IBM's own primitives do
        model = QUANTUM_PROGRAM_PARAMS_CONVERTERS[SCHEMA_VERSION].encoder(program, executor_options)
    except (IBMInputValueError, ValueError) as error:  # pydantic's is a ValueError
        raise ConfigurationError(
            f"primitives: IBM's client refuses this {program_id}'s input: {_words(error)} Nothing was sent."
        ) from None
    params: dict[str, Any] = model.model_dump(mode="json")
    return params


def _words(error: Exception) -> str:
    """Return what is wrong without the value: a validation error of pydantic's has it in its text."""
    faults = getattr(error, "errors", None)
    if not callable(faults):
        return str(error)
    found = faults(include_input=False, include_url=False)
    return " ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}." for fault in found)


def _parts(program_id: str) -> tuple[Any, Any]:
    """Return IBM's class of options and its function that builds the program."""
    if program_id == "sampler":
        from qiskit_ibm_runtime.executor_sampler.prepare import prepare as prepare_sampler
        from qiskit_ibm_runtime.options_models.sampler import SamplerOptions

        return SamplerOptions, prepare_sampler
    from qiskit_ibm_runtime.executor_estimator.prepare import prepare as prepare_estimator
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions

    return EstimatorOptions, prepare_estimator


def version() -> str:
    """Return the version of IBM's package, for the card."""
    from importlib.metadata import version as version_of

    return version_of("qiskit-ibm-runtime")


def _check_alike(program_id: str, pubs: Sequence[Any]) -> None:
    name = "shots" if program_id == "sampler" else "precision"
    asked = sorted({getattr(pub, name) for pub in pubs}, key=str)  # None, too: what the options say
    if len(asked) > 1:
        raise ConfigurationError(
            f"pubs: client-side primitives take one number of {name} a job, these have {asked}. Nothing was sent. Use "
            "one, or a job for each group that `split_pubs` of prefect_runtime.client.circuits.executor_program makes."
        )


def split_pubs(
    program_id: str, pubs: Sequence[Any], *, default: float | None = None
) -> dict[float | None, list[tuple[int, Any]]]:
    """Return PUBs in groups that client-side primitives take: by their own shots or precision, in order.

    Args:
        program_id: "sampler" or "estimator".
        pubs: As for `RuntimeService.run`.
        default: Shots or precision of those that do not say.

    Returns:
        For each number of shots, or precision, the PUBs with it and their places in `pubs`: a job for each, and their
        results go back to these places.
    """
    place = 2 if program_id == "sampler" else 3
    groups: dict[float | None, list[tuple[int, Any]]] = {}
    for index, pub in enumerate(pubs):
        own = getattr(pub, "shots", getattr(pub, "precision", None))
        if own is None and isinstance(pub, list | tuple) and len(pub) > place:
            own = pub[place]
        groups.setdefault(default if own is None else own, []).append((index, pub))
    return groups
