"""What a `look` worker does with one file: say how long it is, or read frames of one span of it."""

from dataclasses import asdict
from typing import Any

import numpy as np

from tvts.corpus.media import probe
from tvts.corpus.media.span import read_span


def look(request: dict[str, Any]) -> dict[str, Any]:
    """The Probe of `video` as a mapping; with `start`, `seconds` and `count`, its frames are written to `output` (.npy) instead.

    Raises Failure if the video cannot be used.
    """
    if "start" not in request:
        return asdict(probe(request["video"]))
    frames = read_span(request["video"], request["start"], request["seconds"], request["count"])
    np.save(request["output"], frames)
    return {"frames": len(frames)}
