"""Sound: any audio stream as mono float samples on the video's clock."""

import contextlib
import itertools
from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from tvts.corpus.media.container import Source, opened
from tvts.corpus.status import Failure

RATE = 16_000
"""Hz; what every speech recogniser here listens to."""
PREROLL_SECONDS = 0.5
MAX_DRIFT_SECONDS = 0.1
"""Decoded audio is contiguous; a time stamp this far from where it should be is a real gap (or overlap) and is followed."""


def decode_audio(source: Source, start: float, seconds: float | None, rate: int = RATE) -> np.ndarray | None:
    """Mono float32 [round(seconds * rate)] from `start` (container clock, seconds), silence where there is none.

    `seconds` None: to the end of the sound. None is returned if there is no audio stream, or nothing in it can be decoded.
    """
    with opened(source) as container:
        if not container.streams.audio or container.streams.audio[0].codec_context is None:
            return None
        if start > PREROLL_SECONDS:
            container.seek(int((start - PREROLL_SECONDS) * av.time_base), backward=True)
        samples = np.zeros(0 if seconds is None else round(seconds * rate), np.float32)
        pieces, heard, at = [], False, None
        for piece, time in _resampled(container, rate):
            expected = round((time - start) * rate)
            if at is None or abs(expected - at) > MAX_DRIFT_SECONDS * rate:
                at = expected
            if seconds is None:
                pieces.append((at, piece))
                heard = True
            else:
                heard |= _place(samples, at, piece)
            at += len(piece)
            if seconds is not None and at >= len(samples):
                break
        if seconds is None:
            samples = np.zeros(max((at + len(piece) for at, piece in pieces), default=0), np.float32)
            for at, piece in pieces:
                _place(samples, at, piece)
        return samples if heard else None


def _place(samples: np.ndarray, at: int, piece: np.ndarray) -> bool:
    """Write `piece` at index `at` of `samples`, as far as it fits; True if any of it did."""
    low, high = max(0, at), min(len(samples), at + len(piece))
    if low >= high:
        return False
    samples[low:high] = piece[low - at : high - at]
    return True


def _resampled(container: InputContainer, rate: int) -> Iterator[tuple[np.ndarray, float]]:
    """Decoded audio as (mono float32 samples, time of the first, seconds): the mean of the channels.

    A new resampler is made where channels or rate change in mid-file, as they do in recorded broadcasts.
    """
    for _, frames in itertools.groupby(
        _decoded(container), lambda frame: (frame.layout.name, frame.rate, frame.format.name)
    ):
        resampler = AudioResampler(format="fltp", rate=rate)
        for frame in itertools.chain(frames, [None]):
            for out in resampler.resample(frame):
                if out.time is not None:
                    yield out.to_ndarray().mean(axis=0), out.time


def _decoded(container: InputContainer) -> Iterator[AudioFrame]:
    """Frames of the first audio stream. Damaged packets are passed over."""
    stream = container.streams.audio[0]
    stream.codec_context.thread_count = 1
    for packet in container.demux(stream):
        with contextlib.suppress(av.error.InvalidDataError):
            yield from packet.decode()


def read_audio(source: Source, rate: int = RATE) -> np.ndarray:
    """All sound of one of our clips, mono float32 in [-1, 1], from time 0. Raises Failure(`no_audio`) if there is none."""
    samples = decode_audio(source, 0.0, None, rate)
    if samples is None or not len(samples):
        raise Failure("no_audio", "no audio that can be decoded")
    return samples
