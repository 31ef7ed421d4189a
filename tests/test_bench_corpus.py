"""The corpus benchmark: its arithmetic, never its speed."""

from pathlib import Path

import pytest
from tests.corpus.conftest import write_clip

from tvts.bench import corpus as bench
from tvts.config import Fetch, Transcribe, UserError

FETCH = Fetch.model_validate({"short_side": 32, "fps": 6.0, "spans": {"per_video": 2, "seconds": 1.0}})
ENGINE = Transcribe(engine="pocketsphinx")


def test_result_is_consistent_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = [write_clip(tmp_path / name, audio=None) for name in ("a.mp4", "b.mp4")]
    result = bench.bench_corpus(videos, FETCH, ENGINE, seconds=0.0)
    assert (result["clips"], result["clip_seconds"], result["asr_clips"], result["words"]) == (4, 1.0, 4, 0)
    assert result["real_time_factor"] == pytest.approx(result["asr_wall_seconds"])
    for spread in (result["cut_core_seconds"], result["clip_bytes"]):
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
    bench.print_bench(result)
    assert "4 clips of 1.0 s" in capsys.readouterr().out


def test_a_synthetic_video_is_cut_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZE", (160, 120))
    monkeypatch.setattr(bench, "SECONDS", 4)
    result = bench.bench_corpus([], FETCH, Transcribe(engine="captions", annotations="."), seconds=0.0)
    assert result["source"].startswith("synthetic 160x120")
    assert result["clips"] >= 4


def test_a_video_that_cannot_be_cut_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of its spans can be cut"):
        bench.bench_corpus([damaged(tmp_path / "a.mp4")], FETCH, ENGINE, seconds=0.0)


def damaged(path: Path) -> Path:
    """All pictures overwritten."""
    data = bytearray(write_clip(path, audio=None, muxing={"movflags": "+faststart"}).read_bytes())
    at = data.index(b"mdat") + 4
    data[at:] = bytes(len(data) - at)
    path.write_bytes(bytes(data))
    return path
