"""Writing the demo's video files: H.264, and AAC where there is sound, by PyAV."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path, frames: Iterable[np.ndarray], fps: int, speech: np.ndarray | None = None, sample_rate: int = 16000
) -> None:
    """Write RGB frames (uint8 [h, w, 3]) and, if given, mono speech (int16 [samples]) as an mp4."""
    with av.open(str(path), "w") as container:
        # x264's macroblock tree is not repeatable from one call to the next, even with one thread
        options = {"preset": "veryfast", "crf": "20", "threads": "1", "x264-params": "mbtree=0"}
        video = container.add_stream("libx264", rate=fps, options=options)
        video.pix_fmt = "yuv420p"
        video.time_base = Fraction(1, fps)
        audio = container.add_stream("aac", rate=sample_rate) if speech is not None else None
        if audio is not None:
            audio.layout = "mono"
            audio.bit_rate = 48000
        for index, pixels in enumerate(frames):
            if index == 0:
                video.height, video.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None and speech is not None:
            sound = av.AudioFrame.from_ndarray(speech[None], format="s16", layout="mono")
            sound.sample_rate = sample_rate
            sound.pts = 0
            resampler = av.AudioResampler("fltp", "mono", sample_rate, frame_size=1024)
            for part in [*resampler.resample(sound), *resampler.resample(None)]:
                container.mux(audio.encode(part))
            container.mux(audio.encode())
