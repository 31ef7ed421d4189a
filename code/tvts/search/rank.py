"""Which spans of which videos a text describes best."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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


def rank(videos: Iterable[Embedded], text: np.ndarray, top: int) -> list[Hit]:
    """The `top` spans closest to `text` ([E], of length 1), best first; of spans of one content that overlap only the best."""
    hits = [(video.sha256, hit) for video in videos for hit in _hits(video, text)]
    hits.sort(key=lambda pair: -pair[1].score)
    chosen: list[tuple[str, Hit]] = []
    for content, hit in hits:
        overlaps = (other == content and hit.start < better.end and better.start < hit.end for other, better in chosen)
        if not any(overlaps):
            chosen.append((content, hit))
        if len(chosen) == top:
            break
    return [hit for _, hit in chosen]


def clock(seconds: float) -> str:
    """`62.5` -> `1:02.5`, `3725` -> `1:02:05`; tenths where they matter."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"


def _hits(video: Embedded, text: np.ndarray) -> list[Hit]:
    if not len(video.spans):
        return []
    features = np.stack(video.spans["features"].to_numpy())
    scores = features @ text / np.linalg.norm(features, axis=1)
    columns = (video.spans[name].to_pylist() for name in ("start", "end", "picture"))
    return [
        Hit(video.path, start, end, float(score), picture)
        for start, end, picture, score in zip(*columns, scores, strict=True)
    ]
