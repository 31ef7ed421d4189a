"""Where somebody speaks in a video, and that spans are cut there."""

from pathlib import Path

import numpy as np
import pytest
from tests.corpus.test_transcribe import FIRST, RATE, SECOND, clip_bytes, narration

from tvts.config import Fetch
from tvts.corpus.cut import cut
from tvts.corpus.media.voice import voiced

BEGINS, SECONDS = 60.0, 120.0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of a soft hiss; after one minute two sentences."""
    speech = narration(*FIRST, *SECOND)
    sound = np.random.default_rng(0).normal(0, 1e-3, round(SECONDS * RATE)).astype(np.float32)
    sound[round(BEGINS * RATE) :][: len(speech)] += speech
    path = tmp_path_factory.mktemp("voice") / "video.mp4"
    path.write_bytes(clip_bytes(sound, SECONDS))
    return path


def test_voice_is_found_where_it_is(video: Path) -> None:
    found = np.array(voiced(video, 0.0))
    ends = BEGINS + len(narration(*FIRST, *SECOND)) / RATE
    inside = (found > BEGINS - 0.5) & (found < ends + 0.5)
    assert inside.sum() > 40
    assert inside.mean() > 0.9
    assert np.median(voiced(video, 10.0)) == pytest.approx(np.median(found) - 10.0, abs=0.5)


def test_a_span_is_cut_where_somebody_speaks(video: Path, tmp_path: Path) -> None:
    ends = BEGINS + len(narration(*FIRST, *SECOND)) / RATE
    heard: dict[str, list[float]] = {"random": [], "voice": []}
    for place, shares in heard.items():
        spans = {"per_video": 1, "seconds": 10.0, "place": place}
        settings = Fetch.model_validate({"short_side": 32, "fps": 5.0, "spans": spans}).model_dump(mode="json")
        for seed in range(6):
            request = {"id": "v", "video": str(video), "audio": None, "settings": settings, "seed": seed}
            (row,) = cut(request | {"stem": str(tmp_path / f"{place}{seed}")})
            overlap = min(ends, row["start"] + 10.0) - max(BEGINS, row["start"])
            shares.append(max(0.0, overlap) / min(10.0, ends - BEGINS))
    assert min(heard["voice"]) > 0.6
    assert sum(heard["random"]) < sum(heard["voice"]) / 2


def test_a_silent_video_has_no_voice(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip_bytes(None, 2))
    assert voiced(tmp_path / "a.mp4", 0.0) == []
