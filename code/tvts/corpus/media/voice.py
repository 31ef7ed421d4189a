"""Where in a video somebody speaks, by the voice activity detector that comes with PocketSphinx (WebRTC's)."""

import numpy as np
from pocketsphinx import Vad

from tvts.corpus.media.audio import RATE, decode_audio
from tvts.corpus.media.container import Source

FRAME_SECONDS = 0.03
STEP = 4
"""One frame in so many is asked: every 0.12 s is enough to place spans of many seconds."""


def voiced(source: Source, origin: float) -> list[float]:
    """Times, in seconds after `origin` (the first picture, on the container's clock), of moments with a voice, ascending."""
    samples = decode_audio(source, origin, None)
    if samples is None:
        return []
    detector = Vad(Vad.STRICT, RATE, FRAME_SECONDS)
    size = detector.frame_bytes // 2
    sound = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    starts = range(0, len(sound) - size + 1, size * STEP)
    return [at / RATE for at in starts if detector.is_speech(sound[at : at + size].tobytes())]
