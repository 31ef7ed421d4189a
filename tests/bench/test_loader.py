"""The loader benchmark reads the same windows in every way."""

from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_video

from tvts.bench import loader


def test_all_ways_are_measured_on_a_given_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ramp = np.arange(8 * 31, dtype=np.uint8)[:, None, None, None]
    video = write_video(tmp_path / "original.mp4", np.broadcast_to(ramp, (8 * 31, 96, 128, 3)).copy())
    result = loader.bench_loader(video, windows=3)
    assert result["original"] == str(video)
    assert len(result["ways"]) == 4
    assert all(low <= middle <= high for middle, low, high in result["ways"].values())
    loader.print_bench(result)
    printed = capsys.readouterr().out
    assert "our shard, PyAV, at keyframes" in printed and "1.0x" in printed


def test_the_made_film_is_what_is_said_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "SECONDS", 1.0)
    assert loader._rate_and_length(loader._film(tmp_path / "film.mp4")) == (30.0, 30)
