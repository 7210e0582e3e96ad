"""What is asked of `open_jobs` is checked before Prefect is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from prefect_runtime import aopen_jobs, open_jobs
from prefect_runtime.wire.errors import ConfigurationError


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"backend": None, "limit": 3}, "backend"),
        ({"backend": "", "limit": 3}, "backend"),
        ({"backend": "lab/ibm_x", "limit": 3}, "backend"),
        ({"backend": "ibm_x", "limit": 0}, "limit"),
        ({"backend": "ibm_x", "limit": 3, "timeout": "60"}, "timeout"),
        ({"backend": "ibm_x", "limit": 3, "timeout": -1}, "timeout"),
    ],
)
def test_a_place_that_cannot_be_is_refused_by_the_arguments_name(arguments: dict[str, Any], name: str) -> None:
    async def hold() -> None:
        async with aopen_jobs(**arguments):
            pass

    with pytest.raises(ConfigurationError, match=f"^{name}: "), open_jobs(**arguments):
        pass
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        asyncio.run(hold())
