"""Where a canary has to be. The whole list: anywhere else, a canary that is found fails a test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .scanner import Hit

INPUTS = ("parameter 1", "parameter 2", "parameter 3", "presigned URL")
KEPT = (*INPUTS, "program source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place, as `Hit.where` names it (with * for any text), and which canaries may be in there."""

    where: str
    canaries: tuple[str, ...]
    why: str


PLACES = (
    Place(where="runtime: token", canaries=("access token",), why="where its token lives, mode 0600"),
    Place(where="runtime: runtime.json", canaries=("access token",), why="how its clients find it, mode 0600"),
    Place(where="runtime: runtime.sqlite", canaries=(*KEPT, "a part of one"), why="of the rows below, in pieces"),
    Place(where="runtime: runtime.sqlite-wal", canaries=(*KEPT, "a part of one"), why="of the rows below, in pieces"),
    Place(where="runtime: runtime.sqlite, jobs.params", canaries=INPUTS, why="jobs that wait survive a crash"),
    Place(where="runtime: runtime.sqlite, programs.data", canaries=("program source",), why="what was uploaded"),
    Place(where="runtime: jobs/*/result*", canaries=INPUTS, why="tests' programs return what they were given"),
    Place(where="process: environment PREFECT_RUNTIME_TOKEN", canaries=("API key",), why="where a person has put it"),
)


def leaks(hits: Iterable[Hit]) -> list[Hit]:
    """Return those that are nowhere in the list."""
    return [hit for hit in hits if not any(_fits(place, hit) for place in PLACES)]


def _fits(place: Place, hit: Hit) -> bool:
    return hit.canary in place.canaries and fnmatchcase(hit.where, place.where)
