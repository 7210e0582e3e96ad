"""Hears of a cancelled flow run for everybody in this process who works for it. Used by the tasks.

Prefect sends no signal to a task that was submitted, or that runs in another process, and none at all to a flow that
runs as a plain script; what it does everywhere is to set the flow run's state. So that is looked at: by one thread per
flow run and process, however many wait, from the second second on, for as long as somebody is on guard.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL

from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock, Deadline
from prefect_runtime.execution import lineage_of
from prefect_runtime.prefect_api import HTTPX_SETTINGS, at_first_answer
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks. With an API that takes its time and the job's own end it leaves some of the five seconds in which
a cancelled flow run's job is to be cancelled."""

ANSWER_SECONDS = 4.0  # a look that takes longer has failed; the next one may not
FIRST_PAUSE_AFTER_FAILURE = 0.25  # seconds; doubled each time
AT_ONCE = 8  # jobs that are cancelled at the same time
LAST_WORDS_SECONDS = 8.0
"""What a process that is being ended takes to look at its flow run and to cancel; Prefect kills it after 30 seconds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a look has shown.

    Attributes:
        cancelled: Somebody has asked for the flow run's end, or for that of one it is a subflow of.
        over: It is final, however it ended.
    """

    cancelled: bool
    over: bool


class FlowStates(Protocol):
    """Where the state of a flow run is asked for."""

    def look(self) -> Verdict:
        """Ask; anything may be raised when there is no answer."""

    def close(self) -> None:
        """Let go of connections."""


class PrefectStates:
    """Prefect's API; the client is made at the first look, which most waits never come to.

    Args:
        flow_run_id: The flow run. Those it is a subflow of count too: only the outermost one gets a person's cancel.
    """

    def __init__(self, flow_run_id: str) -> None:
        self._flow_run_id = UUID(flow_run_id)
        self._ids: list[UUID] = []  # the flow run and those around it, once known
        self._client: SyncPrefectClient | None = None
        self._held = contextlib.ExitStack()

    def look(self) -> Verdict:
        """Ask once: the next look is soon enough."""
        with at_first_answer():
            client = self._client
            if client is None:
                # With settings of its own: else it would be the one of the task, which is closed with that.
                settings = {**HTTPX_SETTINGS, "timeout": ANSWER_SECONDS}
                made = get_client(sync_client=True, httpx_settings=settings)
                client = self._client = self._held.enter_context(made)
            if not self._ids:
                lineage, _ = lineage_of(client, client.read_flow_run(self._flow_run_id))
                self._ids = [flow_run.id for flow_run in lineage]
            flow_runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=self._ids)))
        states = {flow_run.id: flow_run.state for flow_run in flow_runs}
        asked = (StateType.CANCELLING, StateType.CANCELLED)
        own = states.get(self._flow_run_id)
        return Verdict(
            cancelled=any(state is not None and state.type in asked for state in states.values()),
            over=self._flow_run_id not in states or (own is not None and own.is_final()),
        )

    def close(self) -> None:
        """Close the client."""
        self._held.close()
        self._client = None


class Guard:
    """Somebody who is to hear of a cancel.

    Args:
        act: What is done then, once; in a thread of the watch, so that a signal to the main thread cannot cut it off.
        jobs: The jobs it is about, as far as known.
        lasting: It stays after the task that set it up, until its job is known to be final or the flow run is over; of
            a job for which somebody is waiting, that one decides.
    """

    def __init__(self, act: Callable[[], None], *, jobs: Iterable[str] = (), lasting: bool = False) -> None:
        self._act = act
        self._context = contextvars.copy_context()  # of the run that it works for: its logger, Prefect's settings
        self.jobs = set(jobs)
        self.lasting = lasting
        self.called = self.done = False

    def act(self) -> None:
        """Do it, as the one who set up the guard."""
        self._context.run(self._act)


class FlowWatches:
    """The watches of this process.

    Args:
        states: Makes what a flow run's state is asked of.
        clock: Where the time comes from.
    """

    def __init__(self, states: Callable[[str], FlowStates] = PrefectStates, clock: Clock = SYSTEM_CLOCK) -> None:
        self._states = states
        self._clock = clock
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget everything: in a forked process, where no thread came along, and the lock may be held for ever."""
        self._changed = threading.Condition()  # guards all below, and what the watches and guards know
        self._watches: dict[str, _Watch] = {}
        self._cancelled: set[str] = set()  # flow runs that were when last looked at: the next guard looks at once

    def add(self, flow_run_id: str, guard: Guard) -> None:
        """Set up a guard; the first one of a flow run starts its watch."""
        with self._changed:
            watch = self._watches.get(flow_run_id)
            if watch is None:
                watch = self._watches[flow_run_id] = _Watch(flow_run_id, self._states(flow_run_id))
                watch.due = self._clock.monotonic() + LOOK_SECONDS
                watch.at_once = flow_run_id in self._cancelled
                watch.guards.append(guard)
                context = contextvars.copy_context()  # Prefect's settings, and its logger's run
                try:
                    threading.Thread(
                        target=context.run, args=(self._run, watch), name="flow-watch", daemon=True
                    ).start()
                except RuntimeError:  # no more threads: then a cancel is only heard of by the hook
                    del self._watches[flow_run_id]
                    _log.warning("flow run %s: no thread to watch it; a cancel may not reach its jobs", flow_run_id)
                return
            watch.guards.append(guard)
            if watch.cancelled:
                watch.at_once = True
                self._changed.notify_all()

    def remove(self, flow_run_id: str, guard: Guard) -> None:
        """Take a guard away, when it has done what it was told to do; harmless if it has gone.

        The last one's watch ends. Who is told to act may use what the task has open: so the task does not end before.
        """
        self._remove(flow_run_id, lambda other: other is guard)
        deadline = Deadline(LAST_WORDS_SECONDS, self._clock)
        with self._changed:
            while guard.called and not guard.done and not deadline.expired:
                self._clock.wait(self._changed, deadline.remaining())

    def forget(self, job_ids: Collection[str]) -> None:
        """Take away the lasting guards of jobs, whichever flow run asked for them: they are final, or to be kept."""
        known = set(job_ids)
        for flow_run_id in list(self._watches):
            self._remove(flow_run_id, lambda guard: guard.lasting and bool(guard.jobs) and guard.jobs <= known)

    def _remove(self, flow_run_id: str, unwanted: Callable[[Guard], bool]) -> None:
        with self._changed:
            watch = self._watches.get(flow_run_id)
            if watch is None:
                return
            watch.guards = [guard for guard in watch.guards if not unwanted(guard)]
            if not watch.guards:
                del self._watches[flow_run_id]
                self._changed.notify_all()

    def known_cancelled(self, flow_run_id: str) -> bool:
        """True if the flow run is to end as far as is known; it may have been executed again since."""
        return flow_run_id in self._cancelled

    def look_now(self, seconds: float) -> None:
        """Have every watch look now, and wait until those who are to be told have acted, or the time is up.

        A look without an answer is tried again: an API that is busy for a moment must not cost a person's cancel.
        For a thread that is being ended by a signal: the process may be gone with the next breath.
        """
        deadline = Deadline(seconds, self._clock)
        with self._changed:
            watches = list(self._watches.values())
            wanted = [(watch, watch.begun + 1) for watch in watches]
            for watch in watches:
                watch.at_once = True
            self._changed.notify_all()
            while any(watch.finished < number and watch.guards for watch, number in wanted):
                if deadline.expired:
                    return
                self._clock.wait(self._changed, deadline.remaining())

    def before_exit(self) -> None:
        """Look once more when the process ends while jobs are open that nobody waits for.

        Of a flow that is cancelled between two tasks, or while its tasks are being submitted, nothing of ours hears the
        signal; Prefect's runner lets the process end in its own time then (3.8.8), and this is the last of it.
        """
        if self._watches and PREFECT_API_URL.value():  # the server of a process on its own has ended before
            # Prefect's thread that sends logs has ended: what cannot be sent is still printed, without a traceback.
            logging.raiseExceptions = False
            self.look_now(LAST_WORDS_SECONDS)

    # The watch's thread

    def _run(self, watch: _Watch) -> None:
        try:
            while self._is_due(watch):
                pause = LOOK_SECONDS
                try:
                    self._look(watch)
                    watch.failed = 0
                except Exception as error:  # noqa: BLE001 - Prefect's API may be away; whatever it is, jobs go on
                    watch.failed += 1  # a locked SQLite answers 503 in a moment, and is free in the next
                    doublings = min(watch.failed - 1, 10)  # after days of failures the power would be no float any more
                    pause = min(LOOK_SECONDS, FIRST_PAUSE_AFTER_FAILURE * 2**doublings)
                    _log.info("flow run %s: its state is not known now (%s)", watch.flow_run_id, type(error).__name__)
                with self._changed:
                    if not watch.failed:  # who waits for a look's answer has not had one
                        watch.finished = watch.begun
                    watch.due = self._clock.monotonic() + pause
                    self._changed.notify_all()
        finally:
            with contextlib.suppress(Exception):
                watch.states.close()

    def _is_due(self, watch: _Watch) -> bool:
        """Wait for the next look; False when nobody is on guard any more."""
        with self._changed:
            while watch.guards:
                left = 0.0 if watch.at_once else watch.due - self._clock.monotonic()
                if left <= 0:
                    watch.at_once = False  # whoever wants another look from now on says so anew
                    watch.begun += 1
                    return True
                self._clock.wait(self._changed, left)
            return False

    def _look(self, watch: _Watch) -> None:
        verdict = watch.states.look()
        with self._changed:
            watch.cancelled = verdict.cancelled
            if verdict.cancelled:
                self._cancelled.add(watch.flow_run_id)
            else:
                self._cancelled.discard(watch.flow_run_id)
            told = watch.to_be_told() if verdict.cancelled else []
        self._tell(told)
        if verdict.over or verdict.cancelled:  # a lasting guard that was told has done its work
            self._remove(watch.flow_run_id, lambda guard: guard.lasting and (verdict.over or guard.called))

    def _tell(self, guards: list[Guard]) -> None:
        if len(guards) == 1:
            self._act(guards[0])
        elif guards:
            each_at_once(self._act, guards)

    def _act(self, guard: Guard) -> None:
        try:
            guard.act()
        except Exception:  # noqa: BLE001 - one job must not keep the others from being cancelled
            _log.exception("a job could not be cancelled")
        with self._changed:
            guard.done = True
            self._changed.notify_all()


def each_at_once(act: Callable[[T], None], items: Iterable[T]) -> None:
    """Do something with each, several at the same time; one after the other when the interpreter starts no threads."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="flow-watch") as pool:
        for item in items:
            try:
                pool.submit(contextvars.copy_context().run, act, item)
            except RuntimeError:  # it is shutting down
                act(item)


class _Watch:
    """What is known of one flow run, and who is on guard for it; used with the lock of `FlowWatches` held."""

    def __init__(self, flow_run_id: str, states: FlowStates) -> None:
        self.flow_run_id = flow_run_id
        self.states = states
        self.guards: list[Guard] = []
        self.due = 0.0  # the next look
        self.at_once = False
        self.begun = self.finished = 0  # looks; the last one that was answered, and acted upon
        self.failed = 0  # looks without an answer since the last one with one
        self.cancelled = False

    def to_be_told(self) -> list[Guard]:
        """Return the guards that have not been told, as told."""
        waited_for = {job for guard in self.guards if not guard.lasting for job in guard.jobs}
        told = [guard for guard in self.guards if not guard.called and not (guard.lasting and guard.jobs & waited_for)]
        for guard in told:
            guard.called = True
        return told


watches = FlowWatches()
"""Those of this process: a watch belongs to a flow run, not to an account, so that accounts.py is no place for it."""

atexit.register(watches.before_exit)
os.register_at_fork(after_in_child=watches.start_afresh)
