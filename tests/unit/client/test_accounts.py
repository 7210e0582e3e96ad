"""The registry of accounts: who shares a connection, when it is closed, and what a fork leaves of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from prefect_runtime.client import accounts
from prefect_runtime.client.accounts import MAX_IDLE, Account, acquire, release
from prefect_runtime.client.credentials import Credentials


class Closing:
    """Stands for an account's connections; says when they were closed."""

    def __init__(self, account: Account) -> None:
        self.closed = 0
        close = account.client.close

        def count() -> None:
            self.closed += 1
            close()

        account.client.close = count  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Each test starts with no account, and leaves those of others as they were."""
    kept = dict(accounts._accounts)
    accounts._accounts.clear()
    yield
    for account in accounts._accounts.values():
        account.client.close()
    accounts._accounts.clear()
    accounts._accounts.update(kept)


def credentials(token: str = "t") -> Credentials:
    return Credentials(channel="classic", token=token, url="https://runtime.example")


def test_equal_credentials_share_one_account() -> None:
    one, other = acquire(credentials()), acquire(credentials())
    assert one is other
    assert one.users == 2
    assert one.client.monitor is other.client.monitor


def test_other_credentials_and_other_timeouts_have_their_own() -> None:
    found = [acquire(credentials()), acquire(credentials("u")), acquire(credentials(), request_timeout=5)]
    assert len({id(account) for account in found}) == 3
    assert found[2].client.request_timeout == 5


def test_an_account_without_users_is_kept_for_the_next_one() -> None:
    account = acquire(credentials())
    closing = Closing(account)
    release(account)
    assert acquire(credentials()) is account
    assert (account.users, closing.closed) == (1, 0)


def test_the_account_that_nobody_has_used_for_longest_is_closed() -> None:
    found = [acquire(credentials(f"t{number}")) for number in range(MAX_IDLE + 1)]
    closings = [Closing(account) for account in found]
    for account in found:
        release(account)
    assert [closing.closed for closing in closings] == [1] + [0] * MAX_IDLE
    release(acquire(credentials("t1")))  # used just now: no longer the oldest
    release(acquire(credentials("new")))
    assert [closing.closed for closing in closings] == [1, 0, 1] + [0] * (MAX_IDLE - 2)
    assert acquire(credentials("t0")) is not found[0]


def test_an_account_in_use_is_never_closed() -> None:
    used = acquire(credentials("used"))
    closing = Closing(used)
    for number in range(3 * MAX_IDLE):
        release(acquire(credentials(f"t{number}")))
    assert closing.closed == 0
    assert acquire(credentials("used")) is used


def test_an_account_is_closed_only_when_its_last_user_has_gone() -> None:
    account = acquire(credentials("shared"))
    acquire(credentials("shared"))
    closing = Closing(account)
    release(account)
    for number in range(MAX_IDLE + 1):
        release(acquire(credentials(f"t{number}")))
    assert closing.closed == 0
    release(account)
    for number in range(MAX_IDLE + 1):
        release(acquire(credentials(f"t{number}")))
    assert closing.closed == 1


def test_many_threads_get_the_same_account_and_are_counted() -> None:
    found: list[Account] = []
    together = threading.Barrier(32)

    def work() -> None:
        together.wait(10)
        for _ in range(50):
            account = acquire(credentials())
            found.append(account)
            release(account)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 32 * 50
    assert len({id(account) for account in found}) == 1
    assert found[0].users == 0


def test_a_forked_process_starts_with_no_account_even_if_the_lock_was_held() -> None:
    script = """
        import os, signal
        from prefect_runtime.client import accounts
        from prefect_runtime.client.credentials import Credentials
        mine = accounts.acquire(Credentials(url="http://127.0.0.1:1"))
        with accounts._lock:
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                other = accounts.acquire(Credentials(url="http://127.0.0.1:1"))
                os._exit(0 if other is not mine and other.users == 1 and len(accounts._accounts) == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0, "the child found its parent's account, or its lock"
        assert accounts.acquire(Credentials(url="http://127.0.0.1:1")) is mine
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


def test_a_service_that_nobody_closed_may_be_collected_by_a_thread_that_holds_a_lock() -> None:
    script = """
        import faulthandler, gc
        from prefect_runtime.client import RuntimeService, accounts
        from prefect_runtime.client.credentials import Credentials
        faulthandler.dump_traceback_later(10, exit=True)
        gc.disable()

        def leak(number):
            service = RuntimeService(Credentials(url=f"http://127.0.0.1:{number}"))
            cycle = [service]
            cycle.append(cycle)

        for number in range(1, 12):
            leak(number)
        with accounts._lock:
            gc.collect()
        assert [account.users for account in accounts._accounts.values()] == [0] * accounts.MAX_IDLE

        first = next(iter(accounts._accounts.values())).client  # of a job, say, whose service was closed
        leak(12)
        with first._lock:
            gc.collect()
        assert first not in [account.client for account in accounts._accounts.values()]
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


def test_an_account_whose_server_is_not_checked_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    open_ = Credentials(channel="classic", url="https://runtime.example", token="token-0123456789", verify=False)
    for _ in range(2):
        release(acquire(open_))
    release(acquire(Credentials(channel="classic", url="https://runtime.example", token="token-0123456789")))
    assert [record.levelname for record in caplog.records if "verify=False" in record.message] == ["WARNING"]
