"""One session, token and watcher per account and process: a locked, counted registry. For service.py, backends.py.

The one piece of module-level state of the package. An account that nobody uses any more is kept for a while, because
the next task will want it: a connection and a token cost more than the task. After a fork the child starts with none:
a socket or a lock must not be shared by two processes.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from prefect_runtime.client import discovery
from prefect_runtime.client.backend import Backend, BackendStatus
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.endpoints.line import REQUEST_SECONDS
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

MAX_IDLE = 8
"""Accounts kept without a user."""


@dataclass(kw_only=True)
class Account:
    """What everybody who uses an account shares.

    Attributes:
        client: The REST API.
        backends: Backends with their documents, by name, and when they were asked for (monotonic seconds).
        statuses: How backends were doing, by name, and when they were asked (monotonic seconds).
        default_backend: The first backend that the server lists, once asked for.
        memory: What the rooms above remember of this account's jobs, so that they need not ask again; bounded by them.
        users: How many services are open.
    """

    client: RuntimeClient
    backends: dict[str, tuple[float, Backend]] = field(default_factory=dict)
    statuses: dict[str, tuple[float, BackendStatus]] = field(default_factory=dict)
    default_backend: str | None = None
    memory: dict[str, object] = field(default_factory=dict)
    users: int = 0


# Re-entrant: a service that nobody closed gives its account back in a garbage collection, which may come at any line of
# this module, in the thread that holds the lock.
_lock = threading.RLock()
_accounts: dict[tuple[object, ...], Account] = {}  # least recently used first


def acquire(credentials: Credentials, *, request_timeout: float = REQUEST_SECONDS) -> Account:
    """Return the account, opened on first use; give it back with `release`."""
    home = discovery.home() if credentials.channel == "local" and not credentials.url else None
    key = (*credentials.account, request_timeout, home)
    with _lock:
        account = _accounts.pop(key, None)
        if account is None:
            account = Account(client=RuntimeClient(credentials, request_timeout=request_timeout))
            if credentials.verify is False:
                _log.warning("TLS certificates are not checked (verify=False): who is on the line can read the token.")
        account.users += 1  # first: a garbage collection in between would find it idle
        _accounts[key] = account
        return account


def release(account: Account) -> None:
    """Say that one user has done; closes accounts that nobody has used for longest."""
    with _lock:
        account.users -= 1
        idle = [key for key, other in _accounts.copy().items() if other.users <= 0]  # see the lock
        spare = [_accounts.pop(key, None) for key in idle[: max(0, len(idle) - MAX_IDLE)]]
    for other in spare:
        if other is not None:
            other.client.close()


def _forget() -> None:
    global _lock  # noqa: PLW0603 - the lock may have been held by a thread that is not in this process
    _lock = threading.RLock()
    _accounts.clear()


os.register_at_fork(after_in_child=_forget)
