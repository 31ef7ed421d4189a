"""The demo's benchmark is a folder that the adapter `table` reads."""

import csv
import json

import benchmarks
import numpy as np
from stills import draw_stills
from world import MOTIONS, SUBJECTS


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_benchmark_is_balanced_and_captions_are_unique(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "write_clip", lambda path, *_: path.touch())
    monkeypatch.setattr("sys.argv", ["benchmarks.py", "--output", str(tmp_path)])
    benchmarks.main()
    test, train = read(tmp_path / "test.csv"), read(tmp_path / "train.csv")
    assert len({row["text"] for row in test}) == len(test) == 96 + 6 * benchmarks.UNSEEN_SUBJECTS
    assert sum(row["concepts"] == "seen" for row in test) == 96
    for rows in (test, train):
        counts = [sum(row["label"] == motion for row in rows) for motion in MOTIONS]
        assert len(set(counts)) == 1
        assert all((tmp_path / "videos" / row["path"]).exists() for row in rows)
    assert list(json.loads((tmp_path / "classes.json").read_text())) == list(MOTIONS)


def test_clip_is_a_readable_video(tmp_path):
    from tvts.corpus.media import read_all_frames

    path = tmp_path / "clip.mp4"
    benchmarks.write_clip(path, SUBJECTS[0], "left", np.random.default_rng(0))
    frames = read_all_frames(path.read_bytes())
    seconds = benchmarks.REPEATS * benchmarks.MOTION_SECONDS
    assert frames.shape == (seconds * benchmarks.FPS, benchmarks.PIXELS, benchmarks.PIXELS, 3)


def test_stills_are_captioned_with_what_they_show():
    images, captions = draw_stills(40, 24, 5)
    assert images.shape == (40, 24, 24, 3)
    assert all(any(subject.name in caption for subject in SUBJECTS) for caption in captions)
    assert not any(word in caption.split() for caption in captions for word in ("moving", "getting"))
    again, same = draw_stills(40, 24, 5)
    assert captions == same
    np.testing.assert_array_equal(images, again)
