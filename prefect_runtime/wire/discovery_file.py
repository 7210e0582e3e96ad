"""The file that tells where an embedded runtime listens. Written by local, read by client."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.json_text import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryDocument:
    """Where the embedded runtime of a data folder listens: the content of its ``runtime.json`` (mode 0600).

    Attributes:
        url: Base URL, ``http://127.0.0.1:PORT``.
        token: Access token; whoever can read the file may use the runtime.
        pid: Process id of the server.
        instance: Made anew at each start: tells a server from the one before it on the same port.
        protocol: `PROTOCOL` of the server.
    """

    url: str
    token: str = field(repr=False)
    pid: int
    instance: str
    protocol: int

    def to_json(self) -> str:
        """Return the file's content."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> DiscoveryDocument:
        """Read the file's content.

        Raises:
            ProtocolError: Cut off, or not such a document.
        """
        try:
            doc = read_json(text)
            return cls(
                url=str(doc["url"]),
                token=str(doc["token"]),
                pid=int(doc["pid"]),
                instance=str(doc["instance"]),
                protocol=int(doc["protocol"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise ProtocolError("The embedded runtime's discovery file is not readable.") from None
