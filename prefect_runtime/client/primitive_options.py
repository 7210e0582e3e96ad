"""Which options the primitives have: a misspelt one is refused here, before it waits for hours. Used by service.py.

Source: ``OptionsModel`` of ibm-quantum-schemas 0.13, sampler and estimator: IBM's service refuses any other name. The
embedded runtime has ``seed`` besides, and leaves out what it cannot do with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefect_runtime.wire.errors import ConfigurationError

_FREE = ("experimental", "simulator.noise_model", "resilience.layer_noise_model")
"""What is in these is not looked at."""

_COMMON = (
    *(f"dynamical_decoupling.{name}" for name in ("enable", "sequence_type", "extra_slack_distribution")),
    *(f"dynamical_decoupling.{name}" for name in ("scheduling_method", "skip_reset_qubits")),
    *(f"execution.{name}" for name in ("init_qubits", "rep_delay")),
    *(f"twirling.{name}" for name in ("enable_gates", "enable_measure", "num_randomizations")),
    *(f"twirling.{name}" for name in ("shots_per_randomization", "strategy")),
    *(f"simulator.{name}" for name in ("noise_model", "seed_simulator", "coupling_map", "basis_gates")),
    *("default_shots", "experimental", "resilience_level"),
)
_RESILIENCE = (
    *("measure_mitigation", "measure_noise_learning.num_randomizations"),
    *("measure_noise_learning.shots_per_randomization", "zne_mitigation", "zne.amplifier", "zne.noise_factors"),
    *("zne.extrapolator", "zne.extrapolated_noise_factors", "pec_mitigation", "pec.max_overhead", "pec.noise_gain"),
    *(f"layer_noise_learning.{name}" for name in ("max_layers_to_learn", "shots_per_randomization")),
    *(f"layer_noise_learning.{name}" for name in ("num_randomizations", "layer_pair_depths")),
    "layer_noise_model",
)
KNOWN: Mapping[str, frozenset[str]] = {
    "sampler": frozenset({*_COMMON, "execution.meas_type"}),
    "estimator": frozenset(
        {*_COMMON, "default_precision", "seed_estimator", *(f"resilience.{name}" for name in _RESILIENCE)}
    ),
}
"""Their names, with the groups that they are in, by primitive."""

_ARGUMENTS = {"environment": "tags and log_level", "max_execution_time": "max_execution_time", "private": "private"}
"""What IBM's client takes among the options, and the service beside them."""


def check_options(program_id: str, options: Mapping[str, Any], *, embedded: bool) -> None:
    """Refuse options that a primitive does not have.

    Args:
        program_id: "sampler" or "estimator".
        options: The options as they are sent; a value of None is looked at as well.
        embedded: They are for the embedded runtime.

    Raises:
        ConfigurationError: There is no such option; the message says which there are.
    """
    known = KNOWN[program_id] | ({"seed"} if embedded else set())
    groups = {name.rpartition(".")[0] for name in known}
    for name, value in _leaves(options):
        if name in known or (name in groups and not value and value is not False):  # a group that is None, or empty
            continue
        if name in groups:
            within = ", ".join(sorted(one.rpartition(".")[2] for one in known if one.startswith(f"{name}.")))
            raise ConfigurationError(f"options: {name!r} is a group, a mapping with {within}. Nothing was sent.")
        if name.partition(".")[0] in _ARGUMENTS:
            given = _ARGUMENTS[name.partition(".")[0]]
            raise ConfigurationError(f"options: {name!r} is none here: give {given} as arguments. Nothing was sent.")
        import difflib  # for those who have misspelt one

        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" It has {', '.join(sorted(known))}."
        raise ConfigurationError(f"options: the {program_id} has no {name!r}.{hint} Nothing was sent.")


def _leaves(options: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        dotted = f"{group}{name}"
        if isinstance(value, Mapping) and value and dotted not in _FREE:
            yield from _leaves(value, f"{dotted}.")
        else:
            yield dotted, value
