"""Windows: K segments of equal length with pauses between, each with the transcript spoken in it, and their shuffling.

Everything here is a pure function of its arguments and cheap: training calls it for every sample.
"""

import hashlib
from bisect import bisect_left, bisect_right
from operator import itemgetter

import numpy as np

from tvts.config.schema import Dataset
from tvts.corpus.transcripts import Word

LENGTHS = 5
"""Segment lengths tried between the shortest and the longest: 3, 3.5, 4, 4.5 and 5 s in the paper's setting."""


def segment_lengths(dataset: Dataset) -> list[float]:
    """The segment lengths, in seconds, that windows are made with. Official: one uniform draw per window."""
    shortest, longest = dataset.segment_seconds
    return [shortest] if shortest == longest else np.linspace(shortest, longest, LENGTHS, dtype=np.float32).tolist()


def window_seconds(length: float, dataset: Dataset) -> float:
    """Seconds from the start of the first segment to the end of the last."""
    return dataset.segments * length + (dataset.segments - 1) * dataset.gap_seconds


def segments(window: tuple[float, float], dataset: Dataset) -> list[tuple[float, float]]:
    """The K segments (start, end), in seconds, of a window (start of the first segment, length of a segment)."""
    start, length = window
    step = length + dataset.gap_seconds
    return [(start + k * step, start + k * step + length) for k in range(dataset.segments)]


def usable_windows(words: list[Word], duration: float, dataset: Dataset) -> list[tuple[float, float]]:
    """All windows (start, length) inside the clip's margins whose K segments each hold `min_words` words, by start, then length.

    `words` are cleaned (starts and ends do not decrease). Numbers are exact as float32, so that they survive storage.
    """
    starts = np.array([entry["start"] for entry in words])
    ends = np.array([entry["end"] for entry in words])
    found: list[tuple[float, float]] = []
    for length in segment_lengths(dataset):
        room = duration - 2 * dataset.margin_seconds - window_seconds(length, dataset)
        if room < 0:
            continue
        steps = np.arange(int(room / dataset.stride_seconds) + 1)
        candidates = (dataset.margin_seconds + steps * dataset.stride_seconds).astype(np.float32)
        begins = candidates[:, None].astype(float) + np.arange(dataset.segments) * (length + dataset.gap_seconds)
        counts = np.searchsorted(ends, begins + length, "left") - np.searchsorted(starts, begins, "right")
        usable = (counts >= dataset.min_words).all(axis=1)
        found.extend((start, length) for start in candidates[usable].tolist())
    return sorted(found)


def segment_transcripts(words: list[Word], start: float, length: float, dataset: Dataset) -> list[str]:
    """The K transcripts of a window, in true order: the words that begin and end strictly inside each segment."""
    return [
        " ".join(entry["word"] for entry in words[_first_after(words, begin) : _first_ending_at(words, end)])
        for begin, end in segments((start, length), dataset)
    ]


def _first_after(words: list[Word], time: float) -> int:
    return bisect_right(words, time, key=itemgetter("start"))


def _first_ending_at(words: list[Word], time: float) -> int:
    return bisect_left(words, time, key=itemgetter("end"))


def shuffling(seed: int, *sample: object, segments: int) -> list[int]:
    """A permutation that depends on the arguments alone, uniform over them: `order[i]` is the true position of the i-th shown.

    `sample` is whatever names the sample, such as its key and epoch. At most 16 segments.
    """
    ranks = np.frombuffer(digest(seed, *sample), dtype="<u4")[:segments]
    return np.argsort(ranks, kind="stable").tolist()


def digest(*parts: object) -> bytes:
    """64 bytes that depend on the text of `parts` and their boundaries: the project's source of repeatable randomness."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode()).digest()


def share(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone, uniform over them."""
    return int.from_bytes(digest(*parts)[:8], "little") / 2**64


def draw_window(windows: list[tuple[float, float]], seed: int, *sample: object) -> tuple[float, float]:
    """One of `windows`, named by the arguments alone: first a length, then a start, each uniform over what is usable (official order)."""
    lengths = sorted({length for _, length in windows})
    length = lengths[int(share(seed, "length", *sample) * len(lengths))]
    candidates = [window for window in windows if window[1] == length]
    return candidates[int(share(seed, "start", *sample) * len(candidates))]


def fixed_windows(
    windows: list[tuple[float, float]], key: str, dataset: Dataset
) -> list[tuple[float, float, list[int]]]:
    """The stored windows (start, length, order) of a held-out clip: at most `validation_windows` different ones, by start."""
    left = list(windows)
    drawn: list[tuple[float, float]] = []
    while left and len(drawn) < dataset.validation_windows:
        drawn.append(draw_window(left, dataset.seed, "fixed", key, len(drawn)))
        left.remove(drawn[-1])
    return [
        (start, length, shuffling(dataset.seed, "fixed", key, start, length, segments=dataset.segments))
        for start, length in sorted(drawn)
    ]
