"""Pictures are for people: a run goes on without them."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_runtime import plots
from prefect_runtime.wire.errors import ConfigurationError


def test_without_matplotlib_a_picture_says_once_what_to_install(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def needs_matplotlib() -> Any:
        asked.append(1)
        raise ConfigurationError("Pictures need matplotlib: pip install 'prefect-runtime[plots]'.")

    with caplog.at_level("WARNING"), plots.Picture("some-key", "of a test") as picture:
        for _ in range(3):
            picture.draw(needs_matplotlib)
    assert [record.message for record in caplog.records] == [
        "no picture some-key: Pictures need matplotlib: pip install 'prefect-runtime[plots]'."
    ]
    assert asked == [1]


def test_panels_stand_side_by_side_with_a_title_each() -> None:
    figure, row = plots.panels(["one", "two"], "x", "y")
    assert [axes.get_title() for axes in row] == ["one", "two"]
    assert row[0].get_ylabel() == "y"
    assert plots.data_uri(figure).startswith("data:image/png;base64,iVBORw0KGgo")
