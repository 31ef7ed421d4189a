"""What a `cut` worker does with one file: probe it, choose the spans, transcode them."""

import hashlib
import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvts.config import Fetch
from tvts.config.schema import Spans
from tvts.corpus.media import packet_hash, probe, transcode
from tvts.corpus.status import Failure

CANDIDATES = 32
"""Placements drawn when it is known where something is said; the one with the most speech is taken."""


def cut(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Clips of one video, as rows of the index (without offsets) with the clip's `file`; a damaged span is a row with its own status.

    `request`: id, video (path), audio (path or None), settings (Fetch), seed, stem (path of the clips, without number and suffix), and
    perhaps said (times of its words, seconds). Raises Failure if the video as a whole cannot be used.
    """
    settings = Fetch.model_validate(request["settings"])
    video, audio = Path(request["video"]), Path(request["audio"]) if request["audio"] else None
    found = probe(video)
    if found.duration <= 0:
        raise Failure("corrupt", "it has no duration: a single picture")
    if found.duration > settings.max_video_seconds:
        raise Failure("too_long", f"{found.duration:.0f} s; at most {settings.max_video_seconds:g} s are accepted")
    said = request.get("said") or []
    if settings.spans.place == "voice":
        from tvts.corpus.media.voice import voiced

        said = voiced(audio or video, 0.0 if audio else found.start)
    same = {"frames_hash": packet_hash(video, "video"), "audio_hash": packet_hash(audio or video, "audio")}
    rows: list[dict[str, Any]] = []
    for span, (start, seconds) in enumerate(
        spans(request["id"], found.duration, settings.spans, request["seed"], said)
    ):
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
                    **same,
                    **asdict(clip),
                }
            )
        except Failure as failure:
            rows.append({"span": span, "status": failure.status, "message": failure.message, **same})
    return rows


def spans(
    video_id: str, duration: float, settings: Spans, seed: int, said: Sequence[float] = ()
) -> list[tuple[float, float]]:
    """(start, length) of the spans of a video, seconds, in order, not overlapping. Depends on the arguments alone.

    As many as fit, at most `per_video`, every placement equally likely; a video shorter than two spans gives one. With `said` (times at
    which something is said, ascending) the best of some such placements: the one that holds most of them. `per_video: all` is the whole
    video in equal parts.
    """
    if settings.per_video == "all":
        count = max(1, math.ceil(duration / settings.seconds - 1e-3))
        return [(round(number * duration / count, 3), duration / count) for number in range(count)]
    length = min(settings.seconds, duration)
    count = max(1, min(settings.per_video, int(duration / length)))
    draw = random.Random(hashlib.blake2b(f"{seed}:{video_id}".encode(), digest_size=8).digest())
    slack = duration - count * length

    def placement() -> list[tuple[float, float]]:
        offsets = sorted(draw.random() * slack for _ in range(count))
        return [(round(offset + number * length, 3), length) for number, offset in enumerate(offsets)]

    def speech(placed: list[tuple[float, float]]) -> int:
        return sum(bisect_left(said, start + length) - bisect_left(said, start) for start, length in placed)

    return max([placement() for _ in range(CANDIDATES if said else 1)], key=speech)
