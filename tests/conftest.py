"""Fixtures that several test modules use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from resizable import Work

# A loaded machine is no failure: how long examples take to make is not what a test is about.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def demo_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's own demo adapters. Shared: do not write into it."""
    from lora_analysis.demo import write_demo_library

    folder = tmp_path_factory.mktemp("demo-library")
    write_demo_library(folder)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    """The test's folder, with adapters that are closed at its end."""
    with ExitStack() as stack:
        yield Work(tmp_path, stack)
