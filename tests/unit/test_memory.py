"""What a process remembers of cards and jobs: bounded, each kind by itself, the same for all who ask."""

from __future__ import annotations

import threading

from prefect_runtime import memory
from prefect_runtime.card_writer import Place
from prefect_runtime.memory import Known, Memory, Recent


def test_the_least_recently_used_are_forgotten() -> None:
    recent = Recent[int](2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert [recent.get(name) for name in "abc"] == [1, None, 3]
    assert len(recent) == 2


def test_days_of_jobs_without_cards_take_bounded_room() -> None:
    entries: dict[str, object] = {}
    for number in range(memory.MOST_JOBS + 500):
        Memory(entries).job(f"j{number}")
        Memory(entries).relay(f"j{number}", object)
    assert {name: len(kept) for name, kept in entries.items() if isinstance(kept, Recent)} == {
        "cards": 0,
        "numbers": 0,
        "reserved": 0,
        "jobs": memory.MOST_JOBS,
        "relays": memory.MOST_JOBS,
    }


def test_many_cards_push_out_no_relay_and_no_number() -> None:
    entries: dict[str, object] = {}
    relay = Memory(entries).relay("j", object)
    Memory(entries).took("chain", "first", 0)
    for number in range(2 * memory.MOST_CARDS):
        Memory(entries).put(f"k{number}", Known(place=Place(), fields={}))
    assert Memory(entries).relay("j", object) is relay
    assert Memory(entries).first_free("chain", "first") == 1
    assert Memory(entries).get("k0") is None


def test_all_threads_have_one_relay_and_one_writer() -> None:
    entries: dict[str, object] = {}
    found: list[object] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append((Memory(entries).relay("j", object), Memory(entries).writer))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_an_execution_is_forgotten_before_its_tasks_so_that_one_tried_again_searches_from_the_first_number_on() -> None:
    entries: dict[str, object] = {}
    for number in range(memory.MOST_CARDS + 200):
        known = Memory(entries)
        known.took("chain", "first", number)
        known.took(f"task-{number}", "first", 0)
    assert Memory(entries).first_free("chain", "first") == 0
    assert Memory(entries).first_free(f"task-{number}", "first") == 1
