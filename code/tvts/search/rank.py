"""Which spans of which videos a text describes best."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tvts.search.library import Embedded


@dataclass(frozen=True)
class Hit:
    """A span and its cosine with the text. Times in seconds; `picture` is a JPEG."""

    video: Path
    start: float
    end: float
    score: float
    picture: bytes

    @property
    def times(self) -> str:
        """`1:02:07-1:02:15`."""
        return f"{clock(self.start)}-{clock(self.end)}"


def rank(videos: Iterable[Embedded], text: np.ndarray, top: int) -> tuple[list[Hit], int]:
    """The `top` spans closest to `text` ([E], of length 1), best first, and how many spans there were.

    Of spans of a video that overlap only the best counts, of equal videos the first. Holds one video's spans at a time.
    """
    best: list[_Place] = []
    seen: set[str] = set()
    total = 0
    for video in videos:
        total += len(video.spans)
        if len(video.spans) and video.sha256 not in seen:
            seen.add(video.sha256)
            best = sorted([*best, *_best_places(video, text, top)], key=lambda place: -place.score)[:top]
    return [Hit(p.video.path, p.start, p.end, p.score, p.video.picture(p.row)) for p in best], total


def clock(seconds: float) -> str:
    """`62.5` -> `1:02.5`, `3725` -> `1:02:05`; tenths where they matter."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"


class _Place(NamedTuple):
    video: Embedded
    row: int
    start: float
    end: float
    score: float


def _best_places(video: Embedded, text: np.ndarray, top: int) -> list[_Place]:
    """The best `top` spans of a video that do not overlap."""
    features = np.stack(video.spans["features"].to_numpy())
    scores = features @ text / np.linalg.norm(features, axis=1)
    starts, ends = (video.spans[name].to_pylist() for name in ("start", "end"))
    bare = replace(video, spans=video.spans.slice(0, 0))  # what a hit keeps of its video
    chosen: list[_Place] = []
    for row in np.argsort(-scores).tolist():
        if not any(starts[row] < other.end and other.start < ends[row] for other in chosen):
            chosen.append(_Place(bare, row, starts[row], ends[row], float(scores[row])))
        if len(chosen) == top:
            break
    return chosen
