"""Executions that outlive themselves: a task still at work when its flow run, or a task around it, runs again."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger
from prefect.states import Running

from prefect_runtime import journal
from prefect_runtime.cards import Memory, read_all_cards, record_of
from prefect_runtime.client.request import Card
from prefect_runtime.client.submission import now
from prefect_runtime.execution import Execution
from prefect_runtime.journal import PrefectJournal
from prefect_runtime.wire.errors import SubmissionUnknownError

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
