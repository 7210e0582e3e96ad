"""Names of task runs, that say what they do and where: "Wait for job c3f0… on ibm_fez". Used by the tasks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

MOST_REMEMBERED = 1000

_backends: OrderedDict[str, str] = OrderedDict()
"""Where jobs are, as far as this process has learned it. Only people read it: nothing depends on what is forgotten. No
account is at hand when Prefect wants a name, and asking for one would cost a request."""


def remember(job_id: str, backend: str) -> None:
    """Remember where a job is, for the names of the tasks to come."""
    if not backend:
        return
    _backends[job_id] = backend
    while len(_backends) > MOST_REMEMBERED:
        _backends.popitem(last=False)


def about_job(verb: str) -> Callable[..., str]:
    """Return what names the runs of a task on a job: the verb, the job, and its backend if that is known."""

    def name(parameters: Mapping[str, Any]) -> str:
        job_id = parameters["job_id"]
        backend = _backends.get(str(job_id))  # whatever was given: the task refuses it in words, a name must not
        return f"{verb} {job_id} on {backend}" if backend else f"{verb} {job_id}"

    return name


def about_program(verb: str) -> Callable[..., str]:
    """Return what names the runs of a task that submits: the program, and the backend if one is asked for."""

    def name(parameters: Mapping[str, Any]) -> str:
        what = f"{verb} {parameters['program_id']}" if "program_id" in parameters else verb
        backend = parameters.get("backend")
        first = backend[0] if isinstance(backend, list | tuple) and backend else backend
        return f"{what} on {first}" if first else what

    return name
