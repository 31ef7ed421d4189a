"""Make the demo's benchmark: clips of one repeated motion, described as a caption or a class name would.

    python demo/benchmarks.py --output DIR [--seed 1]

Writes a folder for the adapter `table`: `DIR/videos/*.mp4`; `DIR/test.csv` (path, text, label, concepts), in which every caption is
unique and `concepts` says whether the narrated corpus shows and speaks colour and shape (`seen`) or only the stills do (`unseen`);
`DIR/train.csv` (path, label) for the linear probe; `DIR/classes.json` (label -> prompt).
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
MOTION_SECONDS = 1.25  # 10 frames: the two that 8 of 40 frames leave of each motion lie symmetrically in time
UNSEEN_SUBJECTS = 27  # per motion, of 48; every one of the 16 spoken subjects is tested
TRAIN = 240


def write_clip(path: Path, subject: Subject, motion: str, rng: np.random.Generator) -> None:
    """A clip of one motion, shown again and again from a new place."""
    background = random_background(rng)
    progress = np.linspace(0, 1, round(MOTION_SECONDS * FPS))
    plays = (play(PIXELS, subject, motion, progress, rng, background) for _ in range(REPEATS))
    write_video(path, (frame for frames in plays for frame in frames), FPS)


def make_test(folder: Path, rng: np.random.Generator) -> None:
    """Every combination that the corpus speaks, and a sample of the others, balanced over motions."""
    spoken = [subject for subject in SUBJECTS if is_spoken(subject)]
    silent = [subject for subject in SUBJECTS if not is_spoken(subject)]
    items = list(product(spoken, MOTIONS))
    for motion in MOTIONS:
        items += [(silent[index], motion) for index in sorted(rng.choice(len(silent), UNSEEN_SUBJECTS, replace=False))]
    rows = []
    for number, (subject, motion) in enumerate(track(items, "test clips")):
        name = f"test-{number:04d}.mp4"
        write_clip(folder / "videos" / name, subject, motion, rng)
        rows.append((name, describe(subject, motion), motion, "seen" if is_spoken(subject) else "unseen"))
    _write_csv(folder / "test.csv", ("path", "text", "label", "concepts"), rows)


def make_train(folder: Path, rng: np.random.Generator) -> None:
    """Equally many clips of each motion, of any subject."""
    rows = []
    for number in track(range(TRAIN), "training clips of the probe"):
        motion = MOTIONS[number % len(MOTIONS)]
        name = f"train-{number:04d}.mp4"
        write_clip(folder / "videos" / name, SUBJECTS[rng.integers(len(SUBJECTS))], motion, rng)
        rows.append((name, motion))
    _write_csv(folder / "train.csv", ("path", "label"), rows)


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = options.output
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    prompts = {motion: f"a shape {DESCRIBED_MOTIONS[motion]}" for motion in MOTIONS}
    (folder / "classes.json").write_text(json.dumps(prompts, indent=1) + "\n")
    make_train(folder, np.random.default_rng([options.seed, 1]))
    make_test(folder, np.random.default_rng([options.seed, 0]))


if __name__ == "__main__":
    main()
