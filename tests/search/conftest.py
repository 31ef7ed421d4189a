"""The tiny model folder of the evaluation's tests, and a library that keeps its features under the test's folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluate.conftest import tvts_folder  # noqa: F401

from tvts.search.library import Library


@pytest.fixture
def library(tvts_folder: Path, tmp_path: Path) -> Callable[..., Library]:  # noqa: F811
    def make(seconds: float | None = None, threads: int = 1) -> Library:
        return Library(tvts_folder, seconds, tmp_path / "keep", threads, "cpu")

    return make
