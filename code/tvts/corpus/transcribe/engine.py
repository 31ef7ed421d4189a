"""What an engine is: clips in, transcripts out, in order. The walk over a shard and the engines share these types."""

import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Protocol

import numpy as np

from tvts.config import Transcribe, UserError
from tvts.corpus.media import read_audio
from tvts.corpus.shards import read_member
from tvts.corpus.status import Failure, one_line
from tvts.corpus.transcripts import Word, word

RATE = 16000
"""Samples per second that listening engines are given."""

# Bounds of Whisper's own transcribe() and, for the language, of MERLOT
COMPRESSION, LOGPROB, NO_SPEECH, LANGUAGE = 2.4, -1.0, 0.6, 0.8

_SILENCE = 1e-3
_LONGEST_GUESS = 1.0


@dataclass(frozen=True)
class Clip:
    """An ok clip of a shard: its name, its span in the video (seconds) and its place in the tar (bytes)."""

    key: str
    id: str
    start: float
    duration: float
    audio: bool
    sha256: str
    tar: Path
    offset: int
    size: int


@dataclass
class Transcript:
    """What an engine found for one clip. `status`: ok, no_audio, no_speech, no_captions or internal. `seconds`: time spent on it."""

    words: list[Word] = field(default_factory=list)
    language: str | None = None
    flags: list[str] = field(default_factory=list)
    status: str = "ok"
    message: str | None = None
    seconds: float = 0.0


class Engine(Protocol):
    """Turns clips into transcripts. Made from settings and a number of threads; raises `UserError` when it cannot work at all.

    `transcribe` raises it too, if that is seen only then or the tar cannot be read.
    """

    model: str | None
    """SHA-256 of the model; none for engines without one."""

    def transcribe(self, clips: Sequence[Clip]) -> Iterator[Transcript]:
        """One transcript per clip, in order. A clip that fails is a transcript with a status, never an exception."""


def failure(error: Exception) -> Transcript:
    """The transcript of a clip that an engine stumbled over."""
    if isinstance(error, Failure) and error.status == "no_audio":
        return Transcript(status="no_audio", message=error.message)
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = one_line(f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")
    return Transcript(status="internal", message=message)


def hear(clip: Clip) -> np.ndarray | Transcript:
    """The clip's sound, float32 [samples] at 16 kHz mono; or, when there is nothing to recognise in it, its transcript.

    Raises UserError if the tar cannot be read.
    """
    if not clip.audio:
        return Transcript(status="no_audio")
    try:
        sound = read_audio(read_member(clip.tar, clip.offset, clip.size), RATE)[: round(clip.duration * RATE)]
    except OSError as error:  # no clip's fault
        raise UserError(f"{clip.tar}: {error.strerror}; what is transcribed is kept, run the job again") from error
    except Exception as error:
        return failure(error)
    return Transcript(status="no_speech", message="silence") if silent(sound) else sound


def silent(sound: np.ndarray) -> bool:
    """Whether no 0.1 s of `sound` (float32 [samples]) is louder than -60 dB of full scale: engines invent text there."""
    part = RATE // 10
    parts = sound[: len(sound) // part * part].reshape(-1, part)
    return len(parts) == 0 or bool(np.sqrt((parts**2).mean(axis=1)).max() < _SILENCE)


class Listener:
    """An engine that decodes clips in batches; `threads` read the sound of the next batch meanwhile.

    Its model is named when it is made, and loaded when the first sound is there.
    """

    def __init__(self, batch_size: int, threads: int) -> None:
        self.batch_size, self.threads = batch_size, threads

    def load(self) -> None:
        """Load the model, unless it is: called once there is something to recognise."""
        raise NotImplementedError

    def recognise(self, sounds: list[np.ndarray]) -> list[Transcript]:
        """One transcript per sound (float32 [samples], 16 kHz, at most 30 s)."""
        raise NotImplementedError

    def transcribe(self, clips: Sequence[Clip]) -> Iterator[Transcript]:
        """As `Engine.transcribe`."""
        batches = [clips[start : start + self.batch_size] for start in range(0, len(clips), self.batch_size)]
        with ThreadPoolExecutor(self.threads) as pool:
            read = [pool.submit(hear, clip) for clip in batches[0]] if batches else []
            for following in [*batches[1:], ()]:
                heard = [part.result() for part in read]
                read = [pool.submit(hear, clip) for clip in following]
                yield from self._batch(heard)

    def _batch(self, heard: list[np.ndarray | Transcript]) -> list[Transcript]:
        sounds = [part for part in heard if isinstance(part, np.ndarray)]
        if sounds:
            self.load()
        begun = perf_counter()
        recognised = iter(self.recognise(sounds) if sounds else [])
        transcripts = [next(recognised) if isinstance(part, np.ndarray) else part for part in heard]
        seconds = (perf_counter() - begun) / max(1, len(transcripts))
        return [replace(transcript, seconds=seconds) for transcript in transcripts]


def no_speech(probability: float, avg_logprob: float) -> bool:
    """Whether a Whisper takes a clip for silence or noise, and is unsure of what it read in it."""
    return probability > NO_SPEECH and avg_logprob < LOGPROB


def doubts(
    compression_ratio: float, avg_logprob: float, languages: dict[str, float], asked: str | None, used: str
) -> list[str]:
    """Guards against invented text that fire for a clip, the same for every Whisper; `REJECTING` keeps such clips out of training.

    `languages`: probability per language (none for English-only models); `asked`: the language set, or None; `used`: the one decoded in.
    """
    detected = max(languages, key=languages.__getitem__, default=used)
    certain = languages.get(detected, 1.0) >= LANGUAGE
    fires = {
        "compressible": compression_ratio > COMPRESSION,
        "unlikely": avg_logprob < LOGPROB,
        "uncertain_language": asked is None and not certain,
        "other_language": asked is not None and certain and detected != used,
    }
    return [name for name, fired in fires.items() if fired]


class Reader:
    """An engine that reads the transcripts of whole videos from files, found by id, and cuts them to the clips."""

    model: str | None = None

    def __init__(self, settings: Transcribe, threads: int) -> None:
        if settings.annotations is None or not Path(settings.annotations).is_dir():
            raise UserError(
                f"transcribe.annotations: got {settings.annotations!r}; {settings.engine} needs the folder of its files"
            )
        self.folder = Path(settings.annotations)
        self.language = settings.language

    def read(self, id: str) -> Transcript:
        """The transcript of the video `id`, times from its start; status `no_captions` if there is none."""
        raise NotImplementedError

    def source(self, id: str) -> bytes:
        """What `read` goes by for the video `id`, as it is stored; empty if there is nothing."""
        raise NotImplementedError

    def transcribe(self, clips: Sequence[Clip]) -> Iterator[Transcript]:
        """As `Engine.transcribe`. Clips of one video follow each other, so the last video read is kept."""
        id, video = None, Transcript()
        for clip in clips:
            begun = perf_counter()
            if clip.id != id:
                id, video = clip.id, self.read_safely(clip.id)
            words = [
                word(entry["word"], entry["start"] - clip.start, entry["end"] - clip.start, entry["probability"])
                for entry in video.words
                if clip.start <= entry["start"] < clip.start + clip.duration
            ]
            yield replace(video, words=words, seconds=perf_counter() - begun)

    def read_safely(self, id: str) -> Transcript:
        """As `read`; a damaged file is a transcript with status `internal`."""
        try:
            return self.read(id)
        except Exception as error:
            return failure(error)


class Piece(NamedTuple):
    """Text spoken from `start` to `end` (seconds; none = unknown), with the source's belief in it."""

    text: str
    start: float
    end: float | None = None
    probability: float = 1.0


def spread(pieces: Sequence[Piece]) -> list[Word]:
    """The words of `pieces`, evenly over each piece.

    An unknown end is the start of the next piece, but at most 1 s per word after the piece's own start.
    """
    words = []
    following = [*(piece.start for piece in pieces[1:]), float("inf")]
    for (text, start, end, probability), limit in zip(pieces, following, strict=True):
        tokens = text.split()
        if end is None:
            end = max(start, min(limit, start + _LONGEST_GUESS * len(tokens)))
        edges = pairwise(np.linspace(start, end, len(tokens) + 1).tolist())
        words += [word(token, *edge, probability) for token, edge in zip(tokens, edges, strict=True)]
    return words
