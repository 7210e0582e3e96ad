"""Claims: of several that ask for the same thing at the same time, which one may go on.

Used by journal.py, card_search.py and session_cards.py. A claim is a Prefect variable named after the request's key:
creating one is atomic, and nothing else in Prefect is.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.objects import Variable
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from prefect_runtime.card_writer import remove_claims
from prefect_runtime.execution import Execution

CLAIM_TAG = "prefect-runtime"
PAGE = 200

LONGEST_CLAIM_SECONDS = 1800.0
"""How long a claim without a card is believed of a flow run that Prefect says is running: between the two lie the
choice of a backend and a transpilation, which may take minutes."""


class Claims:
    """The claims of one submission.

    Attributes:
        key: The request's key.
        held: Ids of the variables to remove when the card speaks for itself, from the end: the oldest goes first, so
            that there never is a gap for somebody to slip into. By id: a name may be somebody else's by then.
        taken_at: When the claim was granted, in seconds of the monotonic clock.
        found: It was there already, made by the same task run: of an earlier try of its, or of one still at work.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.key = ""
        self.held: list[str] = []
        self.taken_at = 0.0
        self.found = False
        self._successor = ""

    def take(self, client: SyncPrefectClient, key: str) -> str | None:
        """Claim a request and return None, or return the claim of somebody alive who was first ("": gone again).

        A dead one's claim is succeeded by one that is named after it. Replacing it would not be atomic: of two that
        try, the second would remove the claim of the first.
        """
        execution = self._execution
        # The wall clock: it is another process, maybe on another machine, that looks how old a claim is.
        value: dict[str, Any] = {"claim": execution.claim, "root_run": execution.root_run_id, "at": time.time()}
        dead = list[Variable]()
        name = self.key = key
        while True:
            try:
                made = client.create_variable(VariableCreate(name=name, value=value, tags=[CLAIM_TAG]))
            except ObjectAlreadyExists:
                there = client.read_variable_by_name(name)
            else:
                if dead and not self._is_there(client, dead[-1]):
                    # Its other successor has gone meanwhile, and both claims with it: the first name is free again,
                    # or somebody else's.
                    remove_claims(client, [str(made.id)])
                    return ""
                self._hold(value, [str(claim.id) for claim in (made, *reversed(dead))])
                return None
            if there is None or not isinstance(there.value, dict):
                return ""  # removed just now: there is a card
            if there.value.get("claim") == execution.claim:
                self.found = True
                self._hold(there.value, [str(there.id)])
                return None
            if not self._is_dead(client, there.value):
                return str(there.value.get("claim"))
            dead.append(there)
            name = _successor_name(key, there.value)

    @staticmethod
    def _is_there(client: SyncPrefectClient, claim: Variable) -> bool:
        now = client.read_variable_by_name(claim.name)
        return now is not None and now.id == claim.id

    def _hold(self, value: Mapping[str, Any], ids: list[str]) -> None:
        self.held += ids
        self.taken_at = time.monotonic()
        self._successor = _successor_name(self.key, value)

    def is_succeeded(self, client: SyncPrefectClient) -> bool:
        """True if somebody has taken us for dead, and is at work on the request."""
        return bool(self._successor) and client.read_variable_by_name(self._successor) is not None

    def is_over(self, client: SyncPrefectClient, claim: Mapping[str, Any]) -> bool:
        """True if what has been claimed belongs to another flow run, and that one is final or gone."""
        return claim.get("root_run") != self._execution.root_run_id and self._is_final(client, claim)

    @staticmethod
    def _is_final(client: SyncPrefectClient, claim: Mapping[str, Any]) -> bool:
        try:
            flow_run = client.read_flow_run(UUID(str(claim.get("root_run"))))
        except (ObjectNotFound, ValueError):
            return True
        return flow_run.state is None or flow_run.state.is_final()

    def _is_dead(self, client: SyncPrefectClient, claim: Mapping[str, Any]) -> bool:
        """True if nobody will act on a claim any more."""
        if self._execution.succeeds(str(claim.get("claim"))):
            return True
        if self.is_over(client, claim):  # that ours is final would only mean that its body has returned
            return True
        return time.time() - float(claim.get("at") or 0) > LONGEST_CLAIM_SECONDS


def all_claims(client: SyncPrefectClient) -> list[Variable]:
    """Return every claim there is, of whatever flow run: few, as each lives for the moments of one submission."""
    found: list[Variable] = []
    chosen = {"tags": {"all_": [CLAIM_TAG]}}
    while True:
        body = {"variables": chosen, "limit": PAGE, "offset": len(found)}
        page = [Variable.model_validate(one) for one in client.request("POST", "/variables/filter", json=body).json()]
        found += page
        if len(page) < PAGE:
            return [claim for claim in found if isinstance(claim.value, dict) and claim.value.get("claim")]


def root_run_of(claim: Variable) -> str:
    """Return the id of the outermost flow run that made a claim; empty if it does not say."""
    return str(claim.value.get("root_run") or "") if isinstance(claim.value, dict) else ""


def _successor_name(key: str, value: Mapping[str, Any]) -> str:
    """Return the name of the claim after that one; its value tells it from others of the same name."""
    text = json.dumps(value, sort_keys=True)
    return f"{key}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
