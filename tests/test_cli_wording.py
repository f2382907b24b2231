"""Numbers in the words people use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_analysis.cli import wording
from lora_analysis.cli.rows import shared_folder
from lora_analysis.errors import MESSAGE_LIMIT, OptionError


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (None, "?"),
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (99_499, "99.5 kB"),
        (99_600, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (1_727_800, "1.73 MB"),
        (912_000_000, "912 MB"),
        (5_400_000_000_000, "5400 GB"),
    ],
)
def test_sizes(count: int | None, words: str) -> None:
    assert wording.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12.3, "12 s"), (60, "1 min"), (2571.3, "43 min"), (3599.9, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("distribution", "words"),
    [({}, "none"), ({"8": 3}, "8"), ({"16": 1, "4": 5}, "4–16, mostly 4"), ({"0.5": 2, "10": 2}, "0.5–10, mostly 10")],
)
def test_spreads(distribution: dict[str, int], words: str) -> None:
    assert wording.spread(distribution) == words


def test_a_sparkline_has_its_highest_bar_where_most_layers_are() -> None:
    assert wording.sparkline({"4": 1, "8": 8, "16": 4}) == "▁█▄"


@given(st.dictionaries(st.integers(1, 4096), st.integers(1, 1000), min_size=1, max_size=200))
def test_a_sparkline_shows_every_bin_that_holds_something(counts: dict[int, int]) -> None:
    line = wording.sparkline({str(value): count for value, count in counts.items()})
    assert len(line) == min(len(counts), wording.MAX_BARS)
    assert "█" in line
    if len(counts) <= wording.MAX_BARS:
        assert " " not in line


@pytest.mark.parametrize(("value", "words"), [(1e-4, "0.0001"), ([1e-4, 5e-5], "0.0001, 5e-05"), ("auto", "auto")])
def test_learning_rates(value: object, words: str) -> None:
    assert wording.rates(value) == words


def test_what_is_beyond_the_limit_is_counted() -> None:
    assert wording.counted({"a": 3, "b": 2, "c": 1}, limit=2) == "a 3, b 2, … 1 more"
    assert wording.counted({"a": 1000}) == "a 1,000"


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["/x/a", "/x/y/b"], "/x/"),
        (["x/a", "x/b"], "x/"),
        (["a", "b"], ""),
        (["/x/a"], ""),
        (["x/a", "y/b"], ""),
        (["/x/a", "y/b"], ""),
        (["/x/a", "/y/b"], "/"),
    ],
)
def test_the_shared_folder(paths: list[str], folder: str) -> None:
    assert shared_folder(paths) == folder


def test_a_message_that_is_too_long_keeps_its_beginning_and_its_end() -> None:
    path = "/" + "folder/" * 100
    message = OptionError(f"{path}a.safetensors: none of its layers; the checkpoint has no such weight").message
    assert len(message) == MESSAGE_LIMIT
    assert message.startswith("/folder/")
    assert message.endswith("a.safetensors: none of its layers; the checkpoint has no such weight")
    assert len(OptionError("\x1b[2J" * 10_000_000).message) == MESSAGE_LIMIT
    assert OptionError("short").message == "short"
