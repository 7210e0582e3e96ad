"""Programs as people keep them, source and metadata, and as they are sent. Used by service_programs.py and the CLI."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_runtime.client.request import whole
from prefect_runtime.client.retry import check_seconds
from prefect_runtime.wire.errors import ConfigurationError


def read_metadata(metadata: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """Return metadata given at hand or as the path of a JSON file.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    if isinstance(metadata, Mapping):
        return metadata
    try:
        value = json.loads(Path(metadata).read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"metadata: cannot read {metadata} ({type(error).__name__}).") from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"metadata: {metadata} must hold a JSON object.")
    return value


def program_body(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata under the names they have on the wire (max_execution_time is called cost there).

    Raises:
        ConfigurationError: A time that is none, or a value that cannot be sent.
    """
    body = {name: metadata[name] for name in ("name", "description", "spec", "restartable") if name in metadata}
    if "max_execution_time" in metadata:
        seconds = metadata["max_execution_time"]
        check_seconds("metadata: max_execution_time", seconds)
        body["cost"] = None if seconds is None else whole(seconds)
    try:
        json.dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"metadata: cannot be written as JSON ({error}).") from None
    return body


def encode_source(data: str | Path) -> str:
    """Return a program's source, given at hand or as a path, as it is sent: base64.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    is_source = isinstance(data, str) and ("\n" in data or re.search(r"\bdef\s+main\s*\(", data) is not None)
    if not is_source:
        try:
            data = Path(data).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"data: cannot read {data} ({error.strerror}).") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"data: {data} is not Python source: not UTF-8.") from None
    return base64.b64encode(str(data).encode()).decode("ascii")
