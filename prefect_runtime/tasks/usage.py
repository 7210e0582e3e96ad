"""The task that tells what a job will cost, before there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_runtime.blocks.credentials import CredentialsLike, load_credentials
from prefect_runtime.tasks.run import primitive_inputs
from prefect_runtime.tasks.wait import check_choice
from prefect_runtime.wire.errors import ConfigurationError


@task(name="Estimate usage", task_run_name="Estimate usage of {program_id}", retries=0, cache_policy=NO_CACHE)
def estimate_usage(
    credentials: CredentialsLike,
    pubs: Sequence[Any],
    *,
    program_id: Literal["sampler", "estimator"] = "sampler",
    shots: int | None = None,
    precision: float | None = None,
    backend: str | Sequence[str] | None = None,
    optimization_level: int | None = 2,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the seconds of a QPU that PUBs will take, and their parts, by IBM's published formula.

    Circuits are transpiled to the backend as for a job, because what counts is how long they take there; nothing is
    sent. Source of the formula: `prefect_runtime.client.usage`.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        pubs: As for `run_sampler` or `run_estimator`.
        program_id: Which of the two.
        shots: For a sampler's PUBs that do not say.
        precision: For an estimator's PUBs that do not say.
        backend: A name, names in order of preference, or "least_busy"; the block's if None.
        optimization_level: For transpiling, 0 to 3; None to take circuits as they are.
        options: The primitive's options.

    Returns:
        ``{"backend": …, "seconds": …, "overhead_seconds": …, "pubs": [{"circuits", "shots", "circuit_seconds",
        "rep_delay_seconds", "reset_seconds", "seconds"}, …], "lower_bound": …, "assumptions": […]}``.

    Raises:
        ConfigurationError: Something that could not be run.
    """
    check_choice("program_id", program_id, ("sampler", "estimator"))
    name, value = ("precision", precision) if program_id == "sampler" else ("shots", shots)
    if value is not None:  # an estimate that left it out would be of another job
        raise ConfigurationError(f"{name}: a job of the {program_id} takes none; see program_id.")
    default = ("default_shots", shots) if program_id == "sampler" else ("default_precision", precision)
    inputs = primitive_inputs(pubs, options, *default)
    with load_credentials(credentials).get_client() as service:
        return service.estimate_usage(
            program_id, pubs, options=inputs["options"], backend=backend, optimization_level=optimization_level
        ).to_dict()
