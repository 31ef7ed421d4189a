"""Transcripts: words with times, the schema they are stored in, and the rules that keep bad ones out of training.

One schema serves every engine. Transcription repairs times once (`repair_times`); the dataset stage applies the declared rules of
`datasets.*.cleaning` (`clean`). Both return the names of what fired, and the dataset's card counts the names.
"""

import re
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import pyarrow as pa

from tvts.config.schema import Cleaning
from tvts.files import storable


class Word(TypedDict):
    """A spoken word: text without spaces, seconds from the clip's start, and the engine's belief in it (1 where it gives none)."""

    word: str
    start: float
    end: float
    probability: float


WORDS = pa.list_(
    pa.struct([("word", pa.string()), ("start", pa.float32()), ("end", pa.float32()), ("probability", pa.float32())])
)

TRANSCRIPT_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("sha256", pa.string()),
        ("language", pa.string()),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("words", WORDS),
        ("flags", pa.list_(pa.string())),
        ("status", pa.string()),
        ("message", pa.string()),
        ("duration", pa.float64()),
    ]
)

REJECTING = frozenset(
    {"compressible", "unlikely", "uncertain_language", "other_language", "repeats", "sparse", "dense"}
)
"""Flags and rules after which a clip's transcript is not used at all; the others repaired it."""

_LONGEST_PHRASE = 8


def word(text: str, start: float, end: float, probability: float = 1.0) -> Word:
    """A `Word`; its text comes from files that may hold anything."""
    return {"word": storable(text), "start": start, "end": end, "probability": probability}


def repair_times(words: list[Word], duration: float) -> tuple[list[Word], list[str]]:
    """Make the times of `words` usable -> (words, names of what fired).

    Afterwards 0 <= start <= end <= `duration`, starts do not decrease and a word ends before the next begins; the order of the words
    is the engine's. Words that begin after the clip's end are dropped. Fires `outside` and `overlapping`.
    """
    inside = [entry for entry in words if entry["word"].strip() and entry["start"] < duration]
    starts = np.clip([entry["start"] for entry in inside], 0.0, duration)
    ends = np.clip([entry["end"] for entry in inside], 0.0, duration)
    ordered = np.maximum.accumulate(starts) if len(starts) else starts
    bounded = np.maximum(np.minimum(ends, np.append(ordered[1:], duration)), ordered)
    fired = []
    if len(inside) < len(words) or any(e["start"] < 0 or e["end"] > duration for e in inside):
        fired.append("outside")
    if (ordered != starts).any() or (bounded != ends).any():
        fired.append("overlapping")
    repaired = [
        word(entry["word"].strip(), float(start), float(end), entry["probability"])
        for entry, start, end in zip(inside, ordered, bounded, strict=True)
    ]
    return repaired, fired


def clean(words: list[Word], duration: float, cleaning: Cleaning) -> tuple[list[Word], list[str]]:
    """Apply the declared rules to one clip's words -> (words, names of the rules that fired).

    The words are empty when a rule of `REJECTING` fired. Rules, in order: `outside`, `overlapping` (times, see `repair_times`),
    `improbable` (words dropped), `long_word` (words cut), `repeats`, `sparse`, `dense` (clip dropped).
    """
    words, fired = repair_times(words, duration)
    believed = [entry for entry in words if entry["probability"] >= cleaning.min_probability]
    if len(believed) < len(words):
        fired.append("improbable")
    limit = cleaning.max_word_seconds
    if any(entry["end"] - entry["start"] > limit for entry in believed):
        fired.append("long_word")
        believed = [{**entry, "end": min(entry["end"], entry["start"] + limit)} for entry in believed]
    if longest_run([spoken(entry["word"]) for entry in believed]) > cleaning.max_repeats:
        fired.append("repeats")
    words_per_minute = 60 * len(believed) / duration
    if words_per_minute < cleaning.min_words_per_minute:
        fired.append("sparse")
    if words_per_minute > cleaning.max_words_per_minute:
        fired.append("dense")
    return ([] if REJECTING.intersection(fired) else believed), fired


def longest_run(tokens: list[str]) -> int:
    """The most times that a phrase of up to 8 words follows itself directly: 3 for `a b a b a b`, 1 for no repeat, 0 for no words."""
    longest = min(len(tokens), 1)
    for size in range(1, min(_LONGEST_PHRASE, len(tokens) // 2) + 1):
        matches = 0
        for position in range(size, len(tokens)):
            matches = matches + 1 if tokens[position] == tokens[position - size] else 0
            longest = max(longest, 1 + matches // size)
    return longest


def spoken(text: str) -> str:
    """`text` as it sounds, for comparisons: lower case, no punctuation."""
    return re.sub(r"[^\w']+", " ", text.lower()).strip()


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Substitutions, insertions and deletions that turn `reference` into `hypothesis`, per word of `reference` (both as spoken)."""
    said, heard = spoken(reference).split(), spoken(hypothesis).split()
    if not said:
        raise ValueError("the reference has no words")
    codes = {token: code for code, token in enumerate(sorted({*said, *heard}))}
    distance = edit_distances([codes[token] for token in said], [[codes[token] for token in heard]])[0]
    return float(distance) / len(said)


def edit_distances(one: Sequence[int], many: Sequence[Sequence[int]]) -> np.ndarray:
    """Levenshtein distance from the sequence `one` to each of `many` (codes >= 0) -> int32 [len(many)]."""
    lengths = np.array([len(other) for other in many])
    others = np.full((len(many), lengths.max(initial=0)), -1)
    for row, other in enumerate(many):
        others[row, : len(other)] = other
    columns = np.arange(others.shape[1] + 1, dtype=np.int32)
    costs = np.tile(columns, (len(many), 1))
    for code in one:
        replaced = costs[:, :-1] + (others != code)
        deleted = costs + 1
        deleted[:, 1:] = np.minimum(deleted[:, 1:], replaced)
        costs = np.minimum.accumulate(deleted - columns, axis=1) + columns
    return costs[np.arange(len(many)), lengths]
