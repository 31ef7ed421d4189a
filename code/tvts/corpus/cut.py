"""What a `cut` worker does with one file: probe it, choose the spans, transcode them."""

import hashlib
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvts.config import Fetch
from tvts.config.schema import Spans
from tvts.corpus.media import probe, transcode
from tvts.corpus.status import Failure


def cut(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Clips of one video, as rows of the index (without offsets) with the clip's `file`; a damaged span is a row with its own status.

    `request`: id, video (path), audio (path or None), settings (Fetch), seed, stem (path of the clips, without number and suffix).
    Raises Failure if the video as a whole cannot be used.
    """
    settings = Fetch.model_validate(request["settings"])
    video, audio = Path(request["video"]), Path(request["audio"]) if request["audio"] else None
    found = probe(video)
    if found.duration > settings.max_video_seconds:
        raise Failure("too_long", f"{found.duration:.0f} s; at most {settings.max_video_seconds:g} s are accepted")
    rows: list[dict[str, Any]] = []
    for span, (start, seconds) in enumerate(spans(request["id"], found.duration, settings.spans, request["seed"])):
        file = Path(f"{request['stem']}_{span:05d}.mp4")
        try:
            clip = transcode(video, start, seconds, settings, file, audio)
            rows.append(
                {
                    "span": span,
                    "status": "ok",
                    "start": start,
                    "duration": clip.duration,
                    "file": file.name,
                    **asdict(clip),
                }
            )
        except Failure as failure:
            rows.append({"span": span, "status": failure.status, "message": failure.message})
    return rows


def spans(video_id: str, duration: float, settings: Spans, seed: int) -> list[tuple[float, float]]:
    """(start, length) of the spans of a video, seconds, in order, not overlapping, every placement equally likely.

    As many as fit, at most `per_video`; a video shorter than two spans gives one. Depends on (seed, id, duration) alone.
    """
    length = min(settings.seconds, duration)
    count = max(1, min(settings.per_video, int(duration / length)))
    draw = random.Random(hashlib.blake2b(f"{seed}:{video_id}".encode(), digest_size=8).digest())
    slack = duration - count * length
    offsets = sorted(draw.random() * slack for _ in range(count))
    return [(round(offset + number * length, 3), length) for number, offset in enumerate(offsets)]
