"""Make the demo's corpus: procedural videos whose narration tells, in a spoken register, what the coloured shape does.

    python demo/narrated.py --videos 240 --seed 0 --output DIR

Writes `DIR/videos/{id}.mp4` (H.264, AAC), `DIR/urls.csv` (columns id, url; `file://` URLs) and `DIR/script.json`, the ground truth:
per video its voice and its events with start and end (s), colour, shape, motion and spoken text. Everything follows from the seed.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from rich.progress import track
from video import write_video
from world import MOTIONS, OPENERS, SPOKEN_MOTIONS, SPOKEN_SUBJECTS, Subject, play, random_background

PIXELS = 96
FPS = 8
RATE = 16000
EVENT_SECONDS = 3.0  # one event: a short rest, the motion with its sentence, a short rest
REST_SECONDS = 0.2
EVENTS = (4, 6)
THEMED = 0.5  # share of videos in which everything moves in one way
SAME_SUBJECT = 0.3  # chance that the next event shows the same coloured shape, in the other videos
PHRASES = Path(__file__).parent / "phrases"


@dataclass(frozen=True)
class Event:
    """One thing that happens and the pieces of the sentence about it."""

    subject: Subject
    motion: str
    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.pieces)


class Voice:
    """Recorded phrases of one voice, int16 at 16 kHz, by their text."""

    def __init__(self, name: str) -> None:
        samples = _decode(PHRASES / f"{name}.opus")
        index = json.loads((PHRASES / "phrases.json").read_text())[name]
        self.phrases = {
            entry["text"]: samples[round(entry["start"] * RATE) : round(entry["end"] * RATE)] for entry in index
        }

    def say(self, pieces: tuple[str, ...]) -> np.ndarray:
        """The phrases in a row, as one sentence."""
        return np.concatenate([self.phrases[piece] for piece in pieces])


def _decode(path: Path) -> np.ndarray:
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(str(path)) as container:
        decoded = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray()[0] for part in [*decoded, *resampler.resample(None)]])


def write_script(rng: np.random.Generator, voice: Voice) -> list[Event]:
    """What happens in one video: events that differ from the one before, with sentences that fit their time."""
    events: list[Event] = []
    theme = MOTIONS[rng.integers(len(MOTIONS))] if rng.random() < THEMED else None
    room = (EVENT_SECONDS - 1.5 * REST_SECONDS) * RATE
    while len(events) < EVENTS[0] or (len(events) < EVENTS[1] and rng.random() < 0.6):
        same = events and not theme and rng.random() < SAME_SUBJECT
        subject = events[-1].subject if same else SPOKEN_SUBJECTS[rng.integers(len(SPOKEN_SUBJECTS))]
        motion = theme or MOTIONS[rng.integers(len(MOTIONS))]
        told = SPOKEN_MOTIONS[motion][rng.integers(len(SPOKEN_MOTIONS[motion]))]
        pieces = (OPENERS[rng.integers(len(OPENERS))], f"the {subject.name}", told)
        repeats = bool(events) and (events[-1].subject, events[-1].motion) == (subject, motion)
        if not repeats and len(voice.say(pieces)) <= room:
            events.append(Event(subject, motion, pieces))
    return events


def show(events: list[Event], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Frames of a video, uint8 [PIXELS, PIXELS, 3] each."""
    background = random_background(rng)
    seconds = np.arange(round(EVENT_SECONDS * FPS)) / FPS
    progress = (seconds - REST_SECONDS) / (EVENT_SECONDS - 2 * REST_SECONDS)
    for event in events:
        yield from play(PIXELS, event.subject, event.motion, progress, rng, background)


def narrate(events: list[Event], voice: Voice) -> np.ndarray:
    """The narration of a video, int16 [samples]: each sentence starts with its event's motion."""
    speech = np.zeros(round(len(events) * EVENT_SECONDS * RATE), np.int16)
    for number, event in enumerate(events):
        start = round((number * EVENT_SECONDS + REST_SECONDS) * RATE)
        said = voice.say(event.pieces)
        speech[start : start + len(said)] = said
    return speech


def make_corpus(videos: int, seed: int, folder: Path) -> None:
    """Write videos, list and ground truth into `folder`."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    names = sorted(json.loads((PHRASES / "phrases.json").read_text()))
    voices = {name: Voice(name) for name in names}
    script = {}
    for number in track(range(1, videos + 1), "narrated videos"):
        rng = np.random.default_rng([seed, number])
        name = names[number % len(names)]
        events = write_script(rng, voices[name])
        video = f"demo-{number:04d}"
        write_video(folder / "videos" / f"{video}.mp4", show(events, rng), FPS, narrate(events, voices[name]), RATE)
        script[video] = {"voice": name, "events": [_truth(event, index) for index, event in enumerate(events)]}
    (folder / "script.json").write_text(json.dumps(script, indent=1) + "\n")
    with open(folder / "urls.csv", "w", newline="") as file:
        rows = [(video, (folder / "videos" / f"{video}.mp4").resolve().as_uri()) for video in script]
        csv.writer(file).writerows([("id", "url"), *rows])


def _truth(event: Event, index: int) -> dict[str, object]:
    start = index * EVENT_SECONDS
    return {
        "start": start,
        "end": start + EVENT_SECONDS,
        "colour": event.subject.colour,
        "shape": event.subject.shape,
        "motion": event.motion,
        "text": event.text,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, required=True, help="number of videos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    options = parser.parse_args()
    make_corpus(options.videos, options.seed, options.output)


if __name__ == "__main__":
    main()
