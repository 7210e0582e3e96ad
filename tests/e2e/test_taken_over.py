"""Executions that outlive themselves: a task still at work when its flow run, or a task around it, runs again."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger
from prefect.states import Running

from prefect_runtime import journal
from prefect_runtime.card_writer import Place
from prefect_runtime.cards import note_job, read_all_cards, record_of
from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.request import Card
from prefect_runtime.client.submission import now
from prefect_runtime.execution import Execution
from prefect_runtime.journal import PrefectJournal
from prefect_runtime.memory import Known, Memory
from prefect_runtime.wire.errors import RuntimeInvalidStateError, SubmissionUnknownError, WaitInterruptedError
from prefect_runtime.wire.models import JobDocument

from .support import claims, written_down

JournalOf = Callable[[str], PrefectJournal]


@flow
def stands_for_any() -> None:
    """A flow whose run is at work as long as a test wants."""


@pytest.fixture
def journal_of(server_url: str, prefect_settings: None) -> Iterator[JournalOf]:
    """Gives journals of task runs in executions of one flow run; a chain without its first id tells which."""
    with get_client(sync_client=True) as client:
        root = client.create_flow_run(stands_for_any, state=Running())

    journals: list[PrefectJournal] = []

    def journal_of(turns: str) -> PrefectJournal:
        execution = Execution(
            flow_run_id=root.id,
            task_run_id=uuid4(),
            scope=str(root.id),
            root_run_id=str(root.id),
            chain=f"{str(root.id)[-12:]}:{turns}",
        )
        journals.append(PrefectJournal(execution, Memory({})))
        return journals[-1]

    with disable_run_logger():
        yield journal_of
    for one in journals:
        one.abandon()


@pytest.fixture
def card_of() -> Callable[[int, int], Card]:
    """Makes blank cards of one request."""
    request = UUID(int=uuid4().int).hex[:20]
    return lambda occurrence, generation: Card(
        key=f"prt1-{request}-{occurrence}-{generation}",
        fingerprint="f",
        program_id="echo",
        occurrence=occurrence,
        generation=generation,
    )


def claims_of(card: Card) -> list[str]:
    """The claims there are of a request."""
    return [name for name in claims() if name.startswith(card.key)]


def intended(card: Card) -> Card:
    """The card as it is written before the request is sent."""
    return Card(key=card.key, fingerprint="f", program_id="echo", intended_at=now(), posts=1)


def known(card: Card) -> Card:
    """The card once its job is known."""
    return Card(key=card.key, fingerprint="f", program_id="echo", intended_at=now(), posts=1, job_id="job-1")


@pytest.mark.parametrize("successor_has", ["claimed", "intended", "its job"])
def test_who_has_been_taken_over_sends_nothing(
    successor_has: str, journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    zombie, successor = journal_of("1:10.0"), journal_of("2:20.0")
    left = zombie.look_up(card_of, explicit=False)  # and then it transpiles for long
    mine = successor.look_up(card_of, explicit=False)
    assert (left.key, left.intended_at) == (mine.key, mine.intended_at)
    if successor_has != "claimed":
        successor.intend(intended(mine))
    if successor_has == "its job":
        successor.acknowledge(known(mine))
        assert claims_of(mine) == []

    with pytest.raises(SubmissionUnknownError, match="taken it over"):
        zombie.intend(intended(left))
    zombie.abandon()
    assert len(claims_of(mine)) == (0 if successor_has == "its job" else 2), "its claims are the successor's to remove"


def test_who_has_not_been_taken_over_goes_on(journal_of: JournalOf, card_of: Callable[[int, int], Card]) -> None:
    journal = journal_of("1:10.0")
    card = journal.look_up(card_of, explicit=False)
    journal.intend(intended(card))
    journal.acknowledge(known(card))
    assert claims_of(card) == []


def test_a_retry_waits_for_what_an_earlier_try_has_submitted_and_takes_its_job(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    straggler, again = journal_of("1:10.0/t:1:11.0"), journal_of("1:10.0/t:2:12.0")
    card = straggler.look_up(card_of, explicit=False)
    found: list[Card] = []
    settings = contextvars.copy_context()  # a thread has none of its own: it would ask another server
    look_up = partial(again.look_up, card_of, explicit=False)
    retry = threading.Thread(target=lambda: found.append(settings.run(look_up)))
    retry.start()
    retry.join(1.0)
    assert found == [], "did not wait for who is at work"
    straggler.intend(intended(card))
    straggler.acknowledge(known(card))
    retry.join(10)
    assert [(one.key, one.job_id) for one in found] == [(card.key, "job-1")]


def test_a_request_given_up_as_unknown_is_taken_up_by_the_next_equal_one_of_the_same_execution(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    first, second = journal_of("1:10.0"), journal_of("1:10.0")
    card = intended(first.look_up(card_of, explicit=False))
    first.intend(card)
    first.give_up(card)
    written_down()
    taken_up = second.look_up(card_of, explicit=False)
    assert (taken_up.key, taken_up.intended_at) == (card.key, card.intended_at)


def test_a_withdrawn_request_keeps_its_number_for_the_next_equal_one(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    first, second = journal_of("1:10.0"), journal_of("1:10.0")
    card = intended(first.look_up(card_of, explicit=False))
    first.intend(card)
    first.withdraw(card)
    written_down()
    assert second.look_up(card_of, explicit=False).key == card.key
    second.abandon()


@pytest.fixture
def in_the_flows_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the journals believe that their flow runs in this process, and none of it is over before they are."""
    monkeypatch.setattr(journal, "is_elsewhere", lambda: False)


def cards_of(card: Card) -> list[dict[str, str]]:
    """The records of a request's cards, as Prefect has them."""
    with get_client(sync_client=True) as client:
        return [record_of(one) for one in read_all_cards(client, [card.key])]


@pytest.mark.usefixtures("in_the_flows_process")
def test_where_the_runtime_makes_no_second_job_the_card_is_written_with_the_job(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    mine = journal_of("1:10.0")
    card = mine.look_up(card_of, explicit=False)
    mine.intend(intended(card), durably=False)
    assert cards_of(card) == []
    assert len(claims_of(card)) == 1, "the claim stays until there is a card"
    mine.acknowledge(known(card))
    written_down()
    (record,) = cards_of(card)
    assert (record["job_id"], bool(record["intended_at"])) == ("job-1", True)
    assert claims_of(card) == []


@pytest.mark.usefixtures("in_the_flows_process")
def test_an_explicit_key_and_a_process_that_took_its_time_have_their_intent_written_first(
    journal_of: JournalOf, card_of: Callable[[int, int], Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = journal_of("1:10.0")
    card = named.look_up(card_of, explicit=True)
    named.intend(intended(card), durably=False)
    assert len(cards_of(card)) == 1
    slow = journal_of("1:10.0")
    other = slow.look_up(lambda occurrence, generation: card_of(occurrence + 1, generation), explicit=False)
    monkeypatch.setattr(journal, "SUCCEEDED_AFTER_SECONDS", 0.0)
    slow.intend(intended(other), durably=False)
    assert len(cards_of(other)) == 1


@pytest.mark.usefixtures("in_the_flows_process")
def test_a_request_that_was_refused_before_it_had_a_card_leaves_nothing(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    first = journal_of("1:10.0")
    card = intended(first.look_up(card_of, explicit=False))
    first.intend(card, durably=False)
    first.withdraw(card)
    written_down()
    assert (cards_of(card), claims_of(card)) == ([], [])


# A card that both have written on


@pytest.fixture
def overtaken(journal_of: JournalOf, card_of: Callable[[int, int], Card]) -> tuple[PrefectJournal, Card]:
    """One that waits with its card written, to send its request later; its successor has the job on the same card."""
    zombie, successor = journal_of("1:10.0"), journal_of("2:20.0")
    left = intended(zombie.look_up(card_of, explicit=False))
    zombie.intend(left)
    mine = successor.look_up(card_of, explicit=False)
    assert mine.intended_at, "the same card"
    successor.intend(replace(mine, intended_at=now(), posts=2))
    successor.acknowledge(replace(mine, job_id="job-2"))
    written_down()
    return zombie, left


def test_who_was_overtaken_while_told_to_wait_sends_nothing_and_forgets_no_job(
    overtaken: tuple[PrefectJournal, Card], journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    zombie, left = overtaken
    with pytest.raises(SubmissionUnknownError, match="taken it over"):
        zombie.intend(replace(left, intended_at=now()))
    assert journal_of("3:30.0").look_up(card_of, explicit=False).job_id == "job-2"


@pytest.mark.parametrize("end", ["withdraw", "give_up"])
def test_who_was_overtaken_and_is_refused_in_the_end_forgets_no_job(
    end: str, overtaken: tuple[PrefectJournal, Card], journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    zombie, left = overtaken
    getattr(zombie, end)(left)
    written_down()
    assert journal_of("3:30.0").look_up(card_of, explicit=False).job_id == "job-2"


def test_a_successor_goes_on_beside_the_card_of_who_has_stepped_back(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    zombie, successor = journal_of("1:10.0"), journal_of("2:20.0")
    left, mine = zombie.look_up(card_of, explicit=False), successor.look_up(card_of, explicit=False)
    with pytest.raises(SubmissionUnknownError):
        zombie.intend(intended(left))
    successor.intend(intended(mine))
    successor.acknowledge(known(mine))
    written_down()
    assert journal_of("3:30.0").look_up(card_of, explicit=False).job_id == "job-1"


@pytest.mark.usefixtures("in_the_flows_process")
@pytest.mark.parametrize("first", ["old", "new"])
def test_of_one_task_run_that_is_at_work_twice_one_sends(
    first: str, journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    """A timeout that did not end its thread, and the retry after it."""
    old = journal_of("1:10.0")
    new = PrefectJournal(old._execution, Memory({}))
    cards = {one: one.look_up(card_of, explicit=False) for one in (old, new)}
    assert len({card.key for card in cards.values()}) == 1
    old._claims.taken_at -= 60  # it has transpiled for a minute
    turns = [old, new] if first == "old" else [new, old]
    turns[0].intend(intended(cards[turns[0]]))
    with pytest.raises(SubmissionUnknownError, match="taken it over"):
        turns[1].intend(intended(cards[turns[1]]))
    turns[0].abandon()


# Who was told of a failure


@pytest.fixture
def failed_job(journal_of: JournalOf, card_of: Callable[[int, int], Card]) -> tuple[PrefectJournal, JobDocument]:
    """The journal of who has made a job, and what the runtime says of it: it has failed."""
    owner = journal_of("1:10.0")
    card = owner.look_up(card_of, explicit=False)
    owner.intend(intended(card))
    owner.acknowledge(known(card))
    written_down()
    return owner, JobDocument.parse({"id": "job-1", "status": "Failed", "tags": [card.key]})


@pytest.mark.parametrize("told", ["", "aaaaaaaaaaaa:1:15.0"], ids=["without a flow", "another flow run"])
@pytest.mark.parametrize("turn", ["1:10.0", "1:20.0"], ids=["the task tried again", "the flow run resumed"])
def test_a_failure_that_somebody_else_was_told_of_is_not_over_for_its_own_flow_run(
    turn: str,
    told: str,
    failed_job: tuple[PrefectJournal, JobDocument],
    journal_of: JournalOf,
    card_of: Callable[[int, int], Card],
) -> None:
    owner, failed = failed_job
    note_job(failed, Memory({}), delivered=True, delivered_to=told)
    again = PrefectJournal(replace(owner._execution, chain=journal_of(turn)._execution.chain), Memory({}))
    found = again.look_up(card_of, explicit=False)
    assert (found.generation, found.job_id) == (0, "job-1")


def test_whoever_looks_at_a_failed_job_later_its_own_flow_run_was_told_and_gets_a_new_one_when_retried(
    failed_job: tuple[PrefectJournal, JobDocument], journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    owner, failed = failed_job
    for told in (owner._execution.chain, "aaaaaaaaaaaa:1:15.0"):
        note_job(failed, Memory({}), delivered=True, delivered_to=told)
    assert journal_of("2:20.0").look_up(card_of, explicit=False).generation == 1


@pytest.mark.parametrize("delivered", [False, True], ids=["shown", "told of its failure"])
@pytest.mark.usefixtures("prefect_settings")
def test_a_card_that_could_not_be_made_is_made_whole_by_the_next_who_writes_on_it(
    delivered: bool, card_of: Callable[[int, int], Card]
) -> None:
    card = card_of(0, 0)
    memory = Memory({})
    fields = {"key": card.key, "job_id": "job-1", "claim": "aaaaaaaaaaaa:1:15.0|t"}
    memory.put(card.key, Known(place=Place(new={"key": card.key, "type": "markdown"}), fields=fields))
    failed = JobDocument.parse({"id": "job-1", "status": "Failed", "tags": [card.key]})
    note_job(failed, memory, delivered=delivered, delivered_to="aaaaaaaaaaaa:1:15.0")
    memory.writer.flush([card.key])
    (record,) = cards_of(card)
    assert record | fields == record
    assert bool(record.get("failure_delivered")) is delivered


def test_who_waits_for_somebody_elses_request_ends_with_its_cancelled_flow_run(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    looks: list[float] = []

    def check() -> None:
        looks.append(time.monotonic())
        if len(looks) == 3:
            raise RuntimeInvalidStateError("the flow run was cancelled")

    first = journal_of("1:10.0")
    card = first.look_up(card_of, explicit=True)
    waiting = PrefectJournal(replace(first._execution, task_run_id=uuid4()), Memory({}), check=check)
    with pytest.raises(RuntimeInvalidStateError):
        waiting.look_up(card_of, explicit=True)
    assert len(looks) == 3
    assert len(claims_of(card)) == 1, "the other's claim stays"


def test_who_waits_for_somebody_elses_request_ends_with_the_async_caller_who_is_gone(
    journal_of: JournalOf, card_of: Callable[[int, int], Card]
) -> None:
    interrupt = Interrupt()
    first = journal_of("1:10.0")
    card = first.look_up(card_of, explicit=True)
    after_a_look = partial(interrupt.set, "the caller is gone")
    waiting = PrefectJournal(replace(first._execution, task_run_id=uuid4()), Memory({}), check=after_a_look)
    with interrupt.around(), pytest.raises(WaitInterruptedError, match=r"not sent .* the caller is gone"):
        waiting.look_up(card_of, explicit=True)
    assert len(claims_of(card)) == 1, "the other's claim stays"
