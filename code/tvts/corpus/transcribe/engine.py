"""What an engine is: clips in, transcripts out, in order. The walk over a shard and the engines share these types."""

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from tvts.corpus.media import read_audio
from tvts.corpus.shards import read_member
from tvts.corpus.transcripts import Word

RATE = 16000
SILENCE = 1e-3
"""Loudest RMS, of any 0.1 s, below which nothing can be said (-60 dB of full scale)."""


@dataclass(frozen=True)
class Clip:
    """An ok clip of a shard: its name, its span in the video (seconds) and its place in the tar (bytes)."""

    key: str
    id: str
    start: float
    duration: float
    audio: bool
    tar: Path
    offset: int
    size: int


@dataclass
class Transcript:
    """What an engine heard in one clip. `status`: ok, no_audio, no_speech, no_captions or internal. `seconds`: time spent on it."""

    words: list[Word] = field(default_factory=list)
    language: str | None = None
    flags: list[str] = field(default_factory=list)
    status: str = "ok"
    message: str | None = None
    seconds: float = 0.0


class Engine(Protocol):
    """Turns clips into transcripts. Made from settings and a number of threads; raises `UserError` when it cannot work at all."""

    model: str | None
    """SHA-256 of the model; none for engines without one."""

    def transcribe(self, clips: Sequence[Clip]) -> Iterator[Transcript]:
        """One transcript per clip, in order. A clip that fails is a transcript with a status, never an exception."""


def failure(error: Exception) -> Transcript:
    """The transcript of a clip that an engine stumbled over."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return Transcript(status="internal", message=f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")


def hear(clip: Clip) -> np.ndarray | Transcript:
    """The clip's sound, float32 [samples] at 16 kHz mono; or, when there is nothing to recognise in it, its transcript."""
    if not clip.audio:
        return Transcript(status="no_audio")
    try:
        sound = read_audio(read_member(clip.tar, clip.offset, clip.size), RATE)[: round(clip.duration * RATE)]
    except Exception as error:
        return failure(error)
    return Transcript(status="no_speech", message="silence") if silent(sound) else sound


def silent(sound: np.ndarray) -> bool:
    """Whether no 0.1 s of `sound` is louder than -60 dB: engines invent text there."""
    part = RATE // 10
    parts = sound[: len(sound) // part * part].reshape(-1, part)
    return len(parts) == 0 or bool(np.sqrt((parts**2).mean(axis=1)).max() < SILENCE)
