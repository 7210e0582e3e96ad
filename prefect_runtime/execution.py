"""Which execution of which flow run we are in: what makes a request of a re-run the same request.

Used by all that keeps cards, and by flow_watch.py.

Prefect keeps a flow run's id when it is executed again (a retry, a crash, a resume), but gives subflows and task runs
new ones. What stays is the outermost flow run's id and the place of each subflow in it: its name and the number of its
call. What changes is the run count of the flow runs on the way down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.runtime import flow_run as current_flow_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution of a flow run, and the task run in it that acts.

    Attributes:
        flow_run_id: The flow run that cards are shown with.
        task_run_id: The task run that acts; None in the body of a flow.
        scope: What equal requests share to be the same one: the outermost flow run and the subflow's place in it.
        root_run_id: The outermost flow run.
        chain: The runs from the outermost flow run down, each with its run count and the moment it began to run:
            ``"1f3c…:1:1795341.25/9a20…:2:1795342.5"``. A resume changes the moment only. Tasks that the acting one was
            called from are among them: their retry calls it anew, as another task run.
    """

    flow_run_id: UUID
    task_run_id: UUID | None
    scope: str
    root_run_id: str
    chain: str

    @property
    def claim(self) -> str:
        """This task run in this execution, as it stands on a card."""
        return f"{self.chain}|{self.task_run_id}"

    @property
    def is_again(self) -> bool:
        """True if a run that we are in was executed before; a resume, which keeps the count, is not seen."""
        return any(link.split(":")[1] != "1" for link in self.chain.split("/"))

    def is_mine_or_free(self, claim: str) -> bool:
        """True if what has that claim may be taken: it is this task run's, or of an execution that is over."""
        chain, _, task_run_id = claim.partition("|")
        return task_run_id == str(self.task_run_id) or self.is_later_than(chain)

    def is_mine(self, claim: str) -> bool:
        """True if what has that claim is nobody else's: it is this task run's, or of an earlier try of a run it is in.

        What an earlier execution of the outermost flow run has left is free for whoever comes first.
        """
        chain, _, task_run_id = claim.partition("|")
        same_execution = chain.split("/")[0] == self.chain.split("/")[0]
        return task_run_id == str(self.task_run_id) or (same_execution and self.is_later_than(chain))

    def succeeds(self, claim: str) -> bool:
        """True if a claim is of an earlier execution of the same outermost flow run: that one is over.

        An earlier try of a task is not: what it has submitted may still be at work.
        """
        root = claim.partition("|")[0].split("/")[0]
        return self.is_of_same_run(root) and self.is_later_than(root)

    def is_of_same_run(self, chain: str) -> bool:
        """True if a chain is of an execution of the same outermost flow run."""
        return root_of(chain) == root_of(self.chain)

    def is_later_than(self, chain: str) -> bool:
        """True if this execution is another, later one than that of the chain.

        Of the first run in which the two differ the run count has risen, or it began to run later (a resume keeps the
        count); runs of different ids beneath the same execution are siblings, at work at the same time.
        """
        return self._is_later(chain, lambda mine, theirs: mine > theirs)

    def is_retry_of(self, chain: str) -> bool:
        """True if this execution is a later one than that of the chain, and not the same one resumed."""
        return self._is_later(chain, lambda mine, theirs: mine[:1] > theirs[:1])

    def _is_later(self, chain: str, compare: Callable[[list[float], list[float]], bool]) -> bool:
        pairs = zip(chain.split("/"), self.chain.split("/"), strict=False)
        for level, (theirs, mine) in enumerate(pairs):
            their_id, *their_turn = theirs.split(":")
            my_id, *my_turn = mine.split(":")
            if their_id != my_id:
                return level == 0  # another outermost flow run: only an explicit idempotency key leads there
            if their_turn != my_turn:
                return compare(_numbers(my_turn), _numbers(their_turn))
        return False


def current_execution(client: SyncPrefectClient) -> Execution | None:
    """Return where we are; None outside of a flow run. Asks Prefect's API only in a subflow, for each level of it."""
    if not current_flow_run.id:
        return None
    task = TaskRunContext.get()
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    if flow_run is None:
        flow_run = client.read_flow_run(UUID(str(current_flow_run.id)))
    lineage, places = lineage_of(client, flow_run)
    begun = {run.id: run for run in _runs_around(context)}
    lineage = [begun.get(run.id, run) for run in lineage]
    return Execution(
        flow_run_id=flow_run.id,
        task_run_id=task.task_run.id if task else None,
        scope="/".join([str(lineage[0].id), *places]),
        root_run_id=str(lineage[0].id),
        chain="/".join(_link(run) for run in _with_enclosing_tasks(lineage, task)),
    )


def _runs_around(context: object) -> Iterator[FlowRun]:
    """Give the flow runs that this one is called in, here, as they began.

    What the API says of them changes while they go on: one that was paused by a person has another state since then,
    and looks like a later execution. Where they are in another process, that has to do.
    """
    while isinstance(context, FlowRunContext):
        if context.flow_run is not None:
            yield context.flow_run
        context = getattr(getattr(context, "_token", None), "old_value", None)  # as for tasks, below


def root_of(chain: str) -> str:
    """Return the outermost flow run of a chain, or of a claim that begins with one."""
    return chain.partition(":")[0]


def is_elsewhere() -> bool:
    """True if this task works in another process than its flow: one that may end as soon as the task has."""
    flow = FlowRunContext.get()
    return flow is None or flow.detached


def _link(run: FlowRun | TaskRun) -> str:
    began = run.state.timestamp.timestamp() if run.state is not None else 0.0
    return f"{str(run.id)[-12:]}:{run.run_count or 1}:{began:.6f}"


def _with_enclosing_tasks(lineage: list[FlowRun], task: TaskRunContext | None) -> list[FlowRun | TaskRun]:
    """Return the flow runs, each followed by those of its task runs that the acting one is called from.

    Which try of an outer task this is, only its own context knows (the API hears of it late), and that is found
    nowhere but behind the token with which the inner context was entered (Prefect 3.8.8). Where there is none, an outer
    task's retry looks like another call beneath the same execution.
    """
    tasks = list[TaskRun]()
    context: object = task
    while isinstance(context, TaskRunContext):
        if task is not None and context.task_run.id not in (task.task_run.id, *(outer.id for outer in tasks)):
            tasks.insert(0, context.task_run)
        token = getattr(context, "_token", None)
        context = getattr(token, "old_value", None)
    runs = list[FlowRun | TaskRun]()
    for flow_run in lineage:
        runs += [flow_run, *(outer for outer in tasks if outer.flow_run_id == flow_run.id)]
    return runs


def _numbers(turn: list[str]) -> list[float]:
    try:
        return [float(number) for number in turn]
    except ValueError:
        return []


def lineage_of(client: SyncPrefectClient, flow_run: FlowRun) -> tuple[list[FlowRun], list[str]]:
    """Return the flow runs from the outermost one down to this one, and the place of each but the first."""
    lineage, places = [flow_run], list[str]()
    while flow_run.parent_task_run_id is not None:
        stand_in = client.read_task_run(flow_run.parent_task_run_id)
        if stand_in.flow_run_id is None:
            break
        places.insert(0, _place(stand_in))
        flow_run = client.read_flow_run(stand_in.flow_run_id)
        lineage.insert(0, flow_run)
    return lineage, places


def _place(stand_in: TaskRun) -> str:
    """Return a subflow's name and number of call, from the task run that stands for it in its parent.

    A subflow that is called from within a task has no number there, but a new uuid each time; its name has to do.
    """
    name = stand_in.task_key.partition("-")[0]
    number = stand_in.dynamic_key
    return f"{name}#{number}" if str(number).isdigit() else name
