"""Claims: of several that ask for the same thing at the same time, which one may go on. Used by journal.py.

A claim is a Prefect variable named after the request's key: creating one is atomic, and nothing else in Prefect is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from prefect_runtime.execution import Execution

LONGEST_CLAIM_SECONDS = 1800.0
"""How long a claim without a card is believed of a flow run that Prefect says is running: between the two lie the
choice of a backend and a transpilation, which may take minutes."""


class Claims:
    """The claims of one submission.

    Attributes:
        key: The request's key.
        names: Variables to remove when the card speaks for itself, from the end: the oldest goes first, so that there
            never is a gap for somebody to slip into.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.key = ""
        self.names: list[str] = []

    def take(self, client: SyncPrefectClient, key: str) -> str | None:
        """Claim a request and return None, or return the claim of somebody alive who was first ("": gone again).

        A dead one's claim is succeeded by one that is named after it. Replacing it would not be atomic: of two that
        try, the second would remove the claim of the first.
        """
        execution = self._execution
        value: dict[str, Any] = {"claim": execution.claim, "root_run": execution.root_run_id, "at": time.time()}
        name, dead = key, list[str]()
        self.key = key
        while True:
            try:
                client.create_variable(VariableCreate(name=name, value=value, tags=["prefect-runtime"]))
            except ObjectAlreadyExists:
                there = client.read_variable_by_name(name)
            else:
                self.names += [name, *reversed(dead)]
                return None
            if there is None or not isinstance(there.value, dict):
                return ""  # removed just now: there is a card
            if there.value.get("claim") == execution.claim:
                self.names.append(name)
                return None
            if not self._is_dead(client, there.value):
                return str(there.value.get("claim"))
            dead.append(name)
            name = f"{key}-{hashlib.sha256(str(there.value).encode()).hexdigest()[:12]}"

    def _is_dead(self, client: SyncPrefectClient, claim: Mapping[str, Any]) -> bool:
        """True if nobody will act on a claim any more."""
        if self._execution.succeeds(str(claim.get("claim"))):
            return True
        try:
            flow_run = client.read_flow_run(UUID(str(claim.get("root_run"))))
        except (ObjectNotFound, ValueError):
            return True
        if flow_run.state is None or flow_run.state.is_final():
            return True
        return time.time() - float(claim.get("at") or 0) > LONGEST_CLAIM_SECONDS
