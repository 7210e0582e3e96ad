"""Claims of several that ask for the same: never do two hold one request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.objects import Variable
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Running

from prefect_runtime.card_writer import remove_claims
from prefect_runtime.claims import Claims
from prefect_runtime.execution import Execution

ROOT = UUID(int=1)


class Api:
    """Stands for Prefect's client: variables by name, and flow runs that are at work."""

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self.before: Callable[[VariableCreate], None] = lambda wanted: None

    def create_variable(self, wanted: VariableCreate) -> Variable:
        self.before(wanted)
        if wanted.name in self.variables:
            raise ObjectAlreadyExists(http_exc=Exception())
        made = Variable(id=uuid4(), name=wanted.name, value=wanted.value)
        self.variables[wanted.name] = made
        return made

    def read_variable_by_name(self, name: str) -> Variable | None:
        return self.variables.get(name)

    def read_flow_run(self, flow_run_id: UUID) -> Any:
        class AtWork:
            id, state = flow_run_id, Running()

        return AtWork

    def request(self, method: str, path: str, *, path_params: dict[str, str]) -> None:
        assert (method, path) == ("DELETE", "/variables/{id}")
        self.variables = {name: one for name, one in self.variables.items() if str(one.id) != path_params["id"]}


def claims(turn: str) -> Claims:
    return Claims(
        Execution(
            flow_run_id=ROOT,
            task_run_id=uuid4(),
            scope=str(ROOT),
            root_run_id=str(ROOT),
            chain=f"{str(ROOT)[-12:]}:{turn}",
        )
    )


def take(who: Claims, api: Api) -> str | None:
    return who.take(api, "k")  # type: ignore[arg-type]


def test_a_dead_claim_is_succeeded_by_one() -> None:
    api = Api()
    assert take(claims("1:10.0"), api) is None  # and is killed
    first, second = claims("2:20.0"), claims("2:20.0")
    assert take(first, api) is None
    assert take(second, api) == first._execution.claim


def test_who_found_a_dead_claim_does_not_succeed_it_once_its_name_is_somebody_elses() -> None:
    api = Api()
    dead, first, second, third = claims("1:10.0"), *(claims("2:20.0") for _ in range(3))
    assert take(dead, api) is None
    assert take(first, api) is None
    got: list[str | None] = []

    def meanwhile(wanted: VariableCreate) -> None:
        """The first successor gives up, and a third one claims the free name, just before the second would succeed."""
        is_second = isinstance(wanted.value, dict) and wanted.value["claim"] == second._execution.claim
        if wanted.name != "k" and is_second and not got:
            got.append("…")
            remove_claims(api, first.held)  # type: ignore[arg-type]
            got[:] = [take(third, api)]

    api.before = meanwhile
    assert take(second, api) is not None
    assert got == [None]


def test_a_claim_of_the_same_task_run_is_held_and_said_to_be_found() -> None:
    api, one = Api(), claims("1:10.0")
    twin = Claims(one._execution)
    assert (take(one, api), one.found) == (None, False)
    assert (take(twin, api), twin.found) == (None, True)
