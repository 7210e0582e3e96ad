"""What a flow run has chosen or opened, kept on a card of its own, so that the same flow run finds it again.

A card is an artifact, as for jobs: its metadata the record, its markdown what people see. Used by find and sessions.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate

from prefect_runtime.card_writer import patch_card
from prefect_runtime.cards import read_all_cards, record_of
from prefect_runtime.execution import Execution
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.wire.fields import parse_time

_KEY_CHARACTERS = 26


def pin_key(prefix: str, *parts: Any) -> str:
    """Return the key of a card, derived from what it is about: the same in every process.

    Args:
        prefix: What kind of card.
        parts: What it is about; anything that JSON can hold. Only a hash of it goes into the key.
    """
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return prefix + base64.b32encode(digest).decode().lower()[:_KEY_CHARACTERS]


class Pin:
    """One such card.

    Attributes:
        key: Its key.
        fields: Its record, all texts; empty before it is written.
    """

    def __init__(self, client: SyncPrefectClient, execution: Execution, key: str) -> None:
        self._execution = execution
        self.key = key
        # The first that was written counts: of two that wrote at the same time both then go by it.
        written = sorted(read_all_cards(client, [key]), key=lambda card: str(card.created))
        self._artifact_id: UUID | None = written[0].id if written else None
        self.fields: dict[str, str] = record_of(written[0]) if written else {}

    def write(self, fields: Mapping[str, str], markdown: str, description: str) -> None:
        """Write the card, or write it anew."""
        self.fields = {name: value for name, value in fields.items() if value}
        body: dict[str, Any] = {"data": markdown, "metadata_": self.fields}
        with prefect_client() as client:  # that of the beginning may be closed by now, where a session is left
            if self._artifact_id is not None:
                patch_card(client, self._artifact_id, body)
                return
            made = client.create_artifact(
                ArtifactCreate(
                    key=self.key,
                    type="markdown",
                    description=description,
                    flow_run_id=self._execution.flow_run_id,
                    task_run_id=self._execution.task_run_id,
                    **body,
                )
            )
        self._artifact_id = made.id


def moment(text: str) -> str:
    """Return a time for people; as it is if it is none."""
    when = parse_time(text)
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S} UTC"


def as_table(title: str, rows: Mapping[str, str]) -> str:
    """Return a card's markdown: a heading, and a table of what is known."""
    lines = [f"| **{name}** | {value.replace('|', ' ')} |" for name, value in rows.items() if value]
    return "\n".join([f"## {title}", "", "| | |", "| --- | --- |", *lines])
