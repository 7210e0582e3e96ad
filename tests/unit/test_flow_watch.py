"""One look serves all who wait in a flow run, from the second second on; nothing is left when nobody waits."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from prefect_runtime.flow_watch import LAST_WORDS_SECONDS, LOOK_SECONDS, FlowWatches, Guard, Verdict

if TYPE_CHECKING:
    from conftest import FakeClock

GOES_ON = Verdict(cancelled=False, over=False)
CANCELLED = Verdict(cancelled=True, over=False)
OVER = Verdict(cancelled=False, over=True)


class States:
    """A flow run's state on a schedule, for as many as ask; `None` is an API that is away."""

    def __init__(self, clock: FakeClock, *verdicts: Verdict | None) -> None:
        self._clock, self._verdicts = clock, list(verdicts)
        self.looks: list[float] = []
        self.asked_for: list[str] = []
        self.closed = 0
        self.began = clock.monotonic()

    def __call__(self, flow_run_id: str) -> States:
        self.asked_for.append(flow_run_id)
        return self

    def look(self) -> Verdict:
        self.looks.append(self._clock.monotonic() - self.began)
        verdict = self._verdicts.pop(0) if len(self._verdicts) > 1 else self._verdicts[0]
        if verdict is None:
            raise ConnectionError
        return verdict

    def close(self) -> None:
        self.closed += 1


def nothing() -> None:
    """Stands for a wait that is not to be told."""


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flow-watch"]


def ended(clock: FakeClock) -> bool:
    clock.join(watching())
    return watching() == []


def test_a_wait_shorter_than_a_look_costs_none(clock: FakeClock) -> None:
    states = States(clock, GOES_ON)
    watches = FlowWatches(states, clock)
    guard = Guard(nothing)
    watches.add("run", guard)
    clock.sleep(LOOK_SECONDS - 0.1)
    watches.remove("run", guard)
    assert ended(clock)
    assert states.looks == []
    assert states.closed == 1


def test_two_hundred_waits_in_a_flow_run_have_one_look_and_one_thread(clock: FakeClock) -> None:
    states = States(clock, GOES_ON)
    watches = FlowWatches(states, clock)
    guards = [Guard(nothing) for _ in range(200)]
    for guard in guards:
        watches.add("run", guard)
    assert len(watching()) == 1
    clock.sleep(5 * LOOK_SECONDS + 0.1)
    assert states.looks == [LOOK_SECONDS * number for number in range(1, 6)]
    for guard in guards:
        watches.remove("run", guard)
    assert ended(clock)
    assert states.asked_for == ["run"]


def test_everybody_is_told_once_and_who_comes_later_too(clock: FakeClock) -> None:
    told: list[str] = []
    watches = FlowWatches(States(clock, GOES_ON, CANCELLED), clock)
    guards = {name: Guard(lambda name=name: told.append(name)) for name in ("one", "two", "late")}  # type: ignore[misc]
    watches.add("run", guards["one"])
    watches.add("run", guards["two"])
    clock.sleep(2 * LOOK_SECONDS + 0.1)
    assert sorted(told) == ["one", "two"]
    watches.add("run", guards["late"])  # is not kept waiting for the next round
    clock.sleep(0.1)
    assert sorted(told) == ["late", "one", "two"]
    clock.sleep(3 * LOOK_SECONDS)
    assert len(told) == 3
    for guard in guards.values():
        watches.remove("run", guard)
    assert ended(clock)


def test_an_api_that_is_away_ends_nothing_and_is_asked_again(clock: FakeClock) -> None:
    told: list[float] = []
    states = States(clock, *[None] * 8, CANCELLED)
    watches = FlowWatches(states, clock)
    guard = Guard(lambda: told.append(clock.monotonic() - states.began))
    watches.add("run", guard)
    clock.sleep(20 * LOOK_SECONDS)
    pauses = [later - earlier for earlier, later in itertools.pairwise(states.looks[:9])]
    assert pauses == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0], "soon, as it may be over in a moment; then no oftener"
    assert told == [states.looks[8]]
    watches.remove("run", guard)
    assert ended(clock)


def test_one_that_fails_to_act_does_not_keep_the_others_from_it(clock: FakeClock) -> None:
    told: list[str] = []

    def fails() -> None:
        raise OSError("no space left")

    watches = FlowWatches(States(clock, CANCELLED), clock)
    guards = [Guard(fails), Guard(lambda: told.append("other"))]
    for guard in guards:
        watches.add("run", guard)
    clock.sleep(LOOK_SECONDS + 0.1)
    assert told == ["other"]
    for guard in guards:
        watches.remove("run", guard)
    assert ended(clock)


def test_who_is_being_ended_has_a_look_at_once_and_waits_for_what_is_done(clock: FakeClock) -> None:
    told: list[float] = []
    states = States(clock, CANCELLED)
    watches = FlowWatches(states, clock)

    def act() -> None:
        clock.sleep(1.0)  # the cancel takes that long
        told.append(clock.monotonic() - states.began)

    guard = Guard(act)
    watches.add("run", guard)
    watches.look_now(8.0)
    assert told == [1.0]
    watches.remove("run", guard)
    assert ended(clock)


def test_who_is_being_ended_does_not_wait_longer_than_it_says(clock: FakeClock) -> None:
    states = States(clock, CANCELLED)
    watches = FlowWatches(states, clock)
    guard = Guard(lambda: clock.sleep(60))
    watches.add("run", guard)
    watches.look_now(8.0)
    assert clock.monotonic() - states.began == 8.0
    watches.remove("run", guard)
    assert clock.monotonic() - states.began == 16.0
    assert ended(clock)


def test_who_is_being_ended_looks_again_where_the_first_look_has_no_answer(clock: FakeClock) -> None:
    """A locked SQLite answers 503 in a moment, and the person's cancel is known in the next."""
    told: list[str] = []
    states = States(clock, None, None, CANCELLED)
    watches = FlowWatches(states, clock)
    guard = Guard(lambda: told.append("cancel"))
    watches.add("run", guard)
    watches.look_now(LAST_WORDS_SECONDS)
    assert told == ["cancel"]
    assert clock.monotonic() - states.began <= 1.0
    watches.remove("run", guard)
    assert ended(clock)


def test_who_is_being_ended_waits_for_an_api_that_is_away_as_long_as_it_says(clock: FakeClock) -> None:
    states = States(clock, None)
    watches = FlowWatches(states, clock)
    guard = Guard(nothing)
    watches.add("run", guard)
    watches.look_now(LAST_WORDS_SECONDS)
    assert clock.monotonic() - states.began == LAST_WORDS_SECONDS
    assert len(states.looks) < 10
    watches.remove("run", guard)
    assert ended(clock)


def test_a_wait_does_not_end_before_what_was_begun_for_it(clock: FakeClock) -> None:
    states = States(clock, CANCELLED)
    watches = FlowWatches(states, clock)
    guard = Guard(lambda: clock.sleep(3.0))
    watches.add("run", guard)
    clock.sleep(LOOK_SECONDS + 1.0)  # the job is cancelled, its card is still being written
    watches.remove("run", guard)
    assert clock.monotonic() - states.began == LOOK_SECONDS + 3.0
    assert ended(clock)


def test_a_lasting_guard_stays_until_its_flow_run_is_over(clock: FakeClock) -> None:
    told: list[str] = []
    states = States(clock, GOES_ON, GOES_ON, OVER)
    watches = FlowWatches(states, clock)
    watches.add("run", Guard(lambda: told.append("job"), jobs=["job"], lasting=True))
    assert ended(clock)
    assert len(states.looks) == 3
    assert told == []


def test_of_a_job_that_somebody_waits_for_the_wait_decides(clock: FakeClock) -> None:
    told: list[str] = []
    watches = FlowWatches(States(clock, CANCELLED), clock)
    watches.add("run", Guard(lambda: told.append("submitted"), jobs=["job"], lasting=True))
    watches.add("run", Guard(lambda: told.append("other"), jobs=["another"], lasting=True))
    wait = Guard(lambda: told.append("wait"), jobs=["job"])
    watches.add("run", wait)
    clock.sleep(LOOK_SECONDS + 0.1)
    assert sorted(told) == ["other", "wait"]
    watches.forget(["job"])
    watches.remove("run", wait)
    assert ended(clock)


def test_a_flow_run_known_to_be_cancelled_is_looked_at_at_once_for_its_next_job(clock: FakeClock) -> None:
    told: list[str] = []
    states = States(clock, CANCELLED, CANCELLED, GOES_ON)
    watches = FlowWatches(states, clock)
    first = Guard(lambda: told.append("first"))
    watches.add("run", first)
    clock.sleep(LOOK_SECONDS + 0.1)
    watches.remove("run", first)
    assert watches.known_cancelled("run")
    second = Guard(lambda: told.append("second"))
    watches.add("run", second)
    clock.sleep(0.1)
    assert told == ["first", "second"]
    clock.sleep(LOOK_SECONDS)  # executed again meanwhile
    assert not watches.known_cancelled("run")
    watches.remove("run", second)
    assert ended(clock)
