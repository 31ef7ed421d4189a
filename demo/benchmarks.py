"""Make the demo's benchmarks: short clips of one repeated motion, described as a caption or a class name would.

    python demo/benchmarks.py --seed 1 --output DIR

Writes `DIR/videos/*.mp4`, `DIR/retrieval.csv` (video, caption, tag: `seen` = colour and shape are spoken in the corpus, `unseen` =
known from the stills alone) and, for motion recognition, `DIR/train.csv`, `DIR/test.csv` (path, label) and `DIR/classes.json` (prompts).
"""

import argparse
import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
from rich.progress import track
from video import write_video
from world import DESCRIBED_MOTIONS, MOTIONS, SUBJECTS, Subject, describe, is_spoken, play, random_background

PIXELS = 64
FPS = 8
REPEATS = 4  # the motion is shown so often: as many motions as a training window has
MOTION_SECONDS = 1.5
UNSEEN = 160
TRAIN, TEST = 300, 300


def write_clip(path: Path, subject: Subject, motion: str, rng: np.random.Generator) -> None:
    """A clip of one motion, repeated from a new place each time."""
    background = random_background(rng)
    progress = np.linspace(0, 1, round(MOTION_SECONDS * FPS))
    write_video(
        path,
        (frame for _ in range(REPEATS) for frame in play(PIXELS, subject, motion, progress, rng, background)),
        FPS,
    )


def make_retrieval(folder: Path, rng: np.random.Generator) -> None:
    """Every combination that the corpus speaks, and a sample of those it does not; each caption is unique."""
    everything = list(product(SUBJECTS, MOTIONS))
    seen = [item for item in everything if is_spoken(item[0])]
    unseen = [item for item in everything if not is_spoken(item[0])]
    unseen = [unseen[index] for index in sorted(rng.choice(len(unseen), UNSEEN, replace=False))]
    rows = []
    for number, (subject, motion) in enumerate(track([*seen, *unseen], "retrieval clips")):
        name = f"retrieval-{number:04d}.mp4"
        write_clip(folder / "videos" / name, subject, motion, rng)
        rows.append((name, describe(subject, motion), "seen" if is_spoken(subject) else "unseen"))
    _write_csv(folder / "retrieval.csv", ("video", "caption", "tag"), rows)


def make_recognition(folder: Path, split: str, count: int, rng: np.random.Generator) -> None:
    """Equally many clips of each motion, of any subject."""
    rows = []
    for number in track(range(count), f"recognition {split} clips"):
        motion = MOTIONS[number % len(MOTIONS)]
        name = f"{split}-{number:04d}.mp4"
        write_clip(folder / "videos" / name, SUBJECTS[rng.integers(len(SUBJECTS))], motion, rng)
        rows.append((name, MOTIONS.index(motion)))
    _write_csv(folder / f"{split}.csv", ("path", "label"), rows)


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    options = parser.parse_args()
    (options.output / "videos").mkdir(parents=True, exist_ok=True)
    make_retrieval(options.output, np.random.default_rng([options.seed, 0]))
    make_recognition(options.output, "train", TRAIN, np.random.default_rng([options.seed, 1]))
    make_recognition(options.output, "test", TEST, np.random.default_rng([options.seed, 2]))
    prompts = [f"a shape {DESCRIBED_MOTIONS[motion]}" for motion in MOTIONS]
    (options.output / "classes.json").write_text(json.dumps(prompts, indent=1) + "\n")


if __name__ == "__main__":
    main()
