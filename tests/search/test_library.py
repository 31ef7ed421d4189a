"""Features of spans: equal to the evaluation's, kept by content, and a bad video is an answer with a reason."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.corpus.conftest import number_of, write_clip
from tests.evaluate.conftest import make_frames, make_videos

from tvts.config import UserError
from tvts.corpus.media import frame_indices, read_frames
from tvts.corpus.media.span import read_span
from tvts.corpus.status import Failure
from tvts.evaluate.pixels import load_video, to_batch
from tvts.search.library import Embedded, Library, find_videos, spans, write_features
from tvts.search.rank import clock, rank

Make = Callable[..., Library]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_a_span_of_the_whole_video_gives_the_frames_of_the_protocol(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_clip(tmp_path / name, seconds=4, fps=24, codec=codec, audio=None, options={"bf": "0"})
    expected = read_frames(path, frame_indices(96, 12))
    assert np.array_equal(read_span(path, 0.0, 60.0, 12), expected)


def test_a_span_holds_the_frames_of_its_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=6, fps=24, first=1.5)
    numbers = [number_of(picture) for picture in read_span(path, 2.0, 1.0, 12)]
    assert numbers == [48 + index for index in frame_indices(24, 12)]
    assert len(read_span(path, 5.9, 0.1, 12)) < 12
    with pytest.raises(Failure, match="no frames between"):
        read_span(path, 8.0, 1.0, 12)


@pytest.mark.parametrize(
    ("duration", "seconds", "expected"),
    [
        (5.0, None, [(0, 5)]),
        (5.0, 8.0, [(0, 5)]),
        (8.0, 8.0, [(0, 8)]),
        (12.0, 8.0, [(0, 8), (4, 12)]),
        (13.5, 8.0, [(0, 8), (4, 12), (5.5, 13.5)]),
    ],
)
def test_spans_cover_the_video(duration: float, seconds: float | None, expected: list[tuple[float, float]]) -> None:
    assert spans(duration, seconds) == expected


def test_features_are_those_of_the_evaluation(library: Make, tmp_path: Path) -> None:
    paths = [make_videos(tmp_path, ["a.mp4", "b.mp4"]) / name for name in ("a.mp4", "b.mp4")]
    ours = library()
    with torch.inference_mode():
        expected = ours.encoder.video(
            *to_batch((load_video(path, ours.preset) for path in paths), ours.preset, ours.device)
        )
    found = np.stack([video.spans["features"][0].as_py() for video in ours.embed(paths)])
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_features_are_kept_by_content(library: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_videos(tmp_path, ["a.mp4"]) / "a.mp4"
    (first,) = library().embed([path])
    moved = path.rename(tmp_path / "moved.mp4")
    monkeypatch.setattr("tvts.search.library.Worker.call", lambda *_: pytest.fail("it was read again"))
    (second,) = library().embed([moved])
    assert second.kept and not first.kept
    assert second.spans.equals(first.spans)


def test_other_content_spans_or_model_are_computed_anew(library: Make, tmp_path: Path, tvts_folder: Path) -> None:
    path = make_videos(tmp_path, ["a.mp4"], count=24) / "a.mp4"
    list(library().embed([path]))
    assert len(next(library(1.0).embed([path])).spans) == 5
    make_videos(tmp_path, ["other.mp4", "b.mp4"])
    os.replace(tmp_path / "b.mp4", path)
    assert not next(library().embed([path])).kept


def test_a_bad_video_is_an_answer_with_its_reason(library: Make, tmp_path: Path) -> None:
    good = make_videos(tmp_path, ["a.mp4"]) / "a.mp4"
    page, empty, gone = tmp_path / "page.mp4", tmp_path / "empty.mp4", tmp_path / "gone.mp4"
    page.write_text("<html>no</html>", encoding="utf-8")
    empty.touch()
    embedded = list(library().embed([page, good, empty, gone]))
    assert [(video.status, video.message) for video in embedded] == [
        ("corrupt", "a web page, not a video"),
        ("ok", ""),
        ("corrupt", "the file is empty"),
        ("removed", "No such file or directory"),
    ]


def test_a_video_damaged_halfway_gives_what_can_be_read(library: Make, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=8, fps=24, audio=None, options={"g": "24"})
    data = bytearray(path.read_bytes())
    moov = data.index(b"moov")
    for at in range(moov // 2, moov - 16):
        data[at] = 0
    path.write_bytes(data)
    (video,) = library(2.0).embed([path])
    assert video.status == "ok"
    assert 1 <= len(video.spans) <= 7
    assert video.spans["start"][0].as_py() == 0


def test_the_table_has_a_row_per_span_and_per_bad_video(library: Make, tmp_path: Path) -> None:
    make_videos(tmp_path, ["a.mp4"], count=24)
    hostile = tmp_path / os.fsdecode(b"\xff<b>.mp4")
    hostile.touch()
    ours = library(2.0)
    rows = write_features(ours, ours.embed([tmp_path / "a.mp4", hostile]), tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert rows == 2
    assert table["status"].to_pylist() == ["ok", "ok", "corrupt"]
    assert len(table["features"][0].as_py()) == ours.encoder.model.config.projection_dim
    assert set(table["model"].to_pylist()) == {ours.model}


def test_the_model_card_does_not_change_a_models_features(library: Make, tvts_folder: Path) -> None:
    before = library().model
    (tvts_folder / "README.md").write_text("words", encoding="utf-8")
    assert library().model == before
    (tvts_folder / "README.md").unlink()


def test_ranking_is_by_cosine_and_overlapping_spans_give_one_hit(library: Make, tmp_path: Path) -> None:
    paths = make_videos(tmp_path, ["a.mp4", "b.mp4"], count=32)
    ours = library(2.0)
    embedded = list(ours.embed(find_videos(paths)))
    text = ours.text("some words")
    everything = sorted(
        (
            float(np.dot(row, text) / np.linalg.norm(row))
            for video in embedded
            for row in video.spans["features"].to_pylist()
        ),
        reverse=True,
    )
    hits, looked_at = rank(embedded, text, top=100)
    assert looked_at == len(everything)
    assert all(hit.picture.startswith(b"\xff\xd8") for hit in hits)
    assert hits[0].score == pytest.approx(everything[0])
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for number, hit in enumerate(hits):
        for other in hits[:number]:
            assert hit.video != other.video or hit.end <= other.start or other.end <= hit.start
    assert rank(embedded, text, top=2)[0] == hits[:2]
    assert rank([Embedded(tmp_path, "", embedded[0].spans.slice(0, 0), "corrupt")], text, 5) == ([], 0)
    copy = replace(embedded[0], path=tmp_path / "copy.mp4")
    assert rank([*embedded, copy], text, top=100)[0] == hits, "a copy adds nothing"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (9.96, "0:10"), (62.5, "1:02.5"), (3725, "1:02:05"), (59.99, "1:00")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_folders_without_videos_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match="no video files; looked for avi"):
        find_videos(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_videos(tmp_path / "absent")


def test_pictures_show_first_middle_and_last() -> None:
    from io import BytesIO

    from PIL import Image

    from tvts.search.library import PICTURE_HEIGHT, picture

    frames = make_frames(1, count=9, height=48, width=48)
    frames[0], frames[4], frames[8] = 250, 120, 10
    shown = np.asarray(Image.open(BytesIO(picture(frames))))
    assert shown.shape == (PICTURE_HEIGHT, 3 * PICTURE_HEIGHT, 3)
    levels = [int(part.mean()) for part in np.split(shown, 3, axis=1)]
    assert levels == pytest.approx([250, 120, 10], abs=4)
