"""Results of the program ``executor`` that client-side primitives asked for -> `PrimitiveResult`, by IBM's decoders.

Such a result says what it is the answer to (``semantic_role``) and carries what is needed to put it together, so that
any process can, with the extra ``ibm``; without, it stays the plain data it is. Which code reads it is decided by the
tables here and at IBM's, never by a name in the payload: IBM's `ExecutorResultDecoder` is left out, because it looks
for the version with a decoder that imports what a tag names and loads QPY of any version. IBM's models unpack arrays
without a limit, so they are unpacked once before, within ours. Imported by codec.py when such a result is met.

Source: `qiskit_ibm_runtime.decoders`, 0.51.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect_runtime.wire.errors import ResultDecodeError
from prefect_runtime.wire.json_text import read_json


def read(text: str, value: dict[str, Any], unpack: Callable[[str], bytes]) -> Any:
    """Return the `PrimitiveResult` of a client-side primitive; `value` itself where IBM's package is not installed.

    Args:
        text: The result as it came.
        value: The same, its tags read.
        unpack: Undoes base64 and zlib, within what may still be unpacked.

    Raises:
        ResultDecodeError: It is no such result, or unpacks to too much.
    """
    try:
        from qiskit_ibm_runtime.decoders.executor.decoder import AVAILABLE_DECODERS
        from qiskit_ibm_runtime.decoders.executor_estimator.decoder import ClientSideEstimatorDecoder
        from qiskit_ibm_runtime.decoders.executor_sampler.decoder import ClientSideSamplerResultDecoder
    except ImportError:
        return value
    decoders = {"sampler_v2": ClientSideSamplerResultDecoder, "estimator_v2": ClientSideEstimatorDecoder}
    try:
        plain = read_json(text)  # IBM's models know no tags: what they will unpack is what stands here
        _unpack_all(plain, unpack)
        _check_pubs(plain)
        build, model = AVAILABLE_DECODERS[plain["schema_version"]]
        return decoders[plain["semantic_role"]].decode(build(model.model_validate_json(text)))
    except ResultDecodeError:
        raise
    except Exception as error:  # noqa: BLE001 - a value that lies about itself fails in any way
        raise ResultDecodeError(
            f"The result of a client-side primitive cannot be put together ({type(error).__name__})."
        ) from None


def _check_pubs(value: dict[str, Any]) -> None:
    """Refuse more PUBs than there are data for: IBM's estimator makes room for them before it looks."""
    promised, items = value["passthrough_data"]["post_processor"].get("num_pubs", 0), len(value["data"])
    if promised > items > 0:
        raise ResultDecodeError(f"The result of a client-side primitive has {items} items for {promised} PUBs.")


def _unpack_all(value: Any, unpack: Callable[[str], bytes]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("data"), str) and {"shape", "dtype"} <= value.keys():
            unpack(value["data"])
        for one in value.values():  # of an array too: if it turns out to be none, what is in it is read
            _unpack_all(one, unpack)
    elif isinstance(value, list):
        for one in value:
            _unpack_all(one, unpack)
