"""What a media file holds, found without decoding it: size, rate, duration, audio; and whether its end is really there."""

import contextlib
import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from tvts.corpus.media.container import MAX_PIXELS, Source, opened, seconds, video_stream
from tvts.corpus.status import Failure

MAX_ASPECT = 8.0
TAIL_SECONDS = 2.0
TRUNCATED_SECONDS, TRUNCATED_SHARE = 1.0, 0.02
"""A file that ends this much before its declared duration (the larger of both) is truncated."""


@dataclass(frozen=True)
class Probe:
    """A video file. Times in seconds; sizes in pixels as displayed (sample aspect ratio applied, rotation not)."""

    format: str
    codec: str
    width: int
    height: int
    fps: float
    """Average frame rate as declared; 0 when unknown."""
    frames: int
    """Declared number of frames; 0 when the container does not say."""
    start: float
    """Time of the first frame on the container's clock."""
    duration: float
    """From the first frame to the end of the last."""
    audio: bool


def probe(source: Source) -> Probe:
    """Describe `source`.

    Raises Failure: `removed`, `corrupt` (not a video, no frames, truncated), `unsupported_codec`, `skipped_rule` (absurd size).
    """
    with opened(source) as container:
        stream = video_stream(container)
        width, height = display_size(stream)
        audio = bool(container.streams.audio) and container.streams.audio[0].codec_context is not None
        start = seconds(stream.start_time, stream.time_base)
        return Probe(
            format=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            fps=float(stream.average_rate or 0),
            frames=stream.frames,
            start=start,
            duration=_verified_end(container, stream) - start,
            audio=audio,
        )


def packet_hash(source: Source, kind: Literal["video", "audio"]) -> str | None:
    """16 hex digits that name the encoded pictures or sound of `source`, whatever container and names they come in; None without any.

    Equal hashes are copies; the reverse does not hold, as an upload that was encoded again differs.
    """
    digest, size = hashlib.blake2b(digest_size=8), 0
    with contextlib.suppress(Failure), opened(source) as container:
        if kind == "audio" and not container.streams.audio:
            return None
        stream = video_stream(container) if kind == "video" else container.streams.audio[0]
        for packet in container.demux(stream):
            digest.update(bytes(packet))
            size += packet.size
    return digest.hexdigest() if size else None


def display_size(stream: VideoStream) -> tuple[int, int]:
    """Width and height in square pixels. Raises Failure if they are missing or absurd."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width or not height:
        raise Failure("corrupt", "the video stream has no picture size")
    if width * height > MAX_PIXELS:
        raise Failure("skipped_rule", f"{width}x{height} pixels; at most {MAX_PIXELS} are accepted")
    ratio = float(stream.sample_aspect_ratio or 1) or 1.0
    shown = width * ratio
    if max(shown / height, height / shown) > MAX_ASPECT:
        raise Failure(
            "skipped_rule", f"{round(shown)}x{height} pixels; an aspect ratio up to {MAX_ASPECT:g} is accepted"
        )
    return max(1, round(shown)), height


def _verified_end(container: InputContainer, stream: VideoStream) -> float:
    """End of the last video frame, seconds. Reads the file's tail: an index at the front promises frames that a truncated file lacks."""
    if container.duration:
        declared = container.duration / av.time_base
        if (
            container.format.name == "avi" and stream.average_rate
        ):  # its duration is guessed from the size of what is left
            declared = max(declared, float(stream.frames / stream.average_rate))
        enough = declared - max(TRUNCATED_SECONDS, TRUNCATED_SHARE * declared)
        ends = _last_ends(
            container, stream, seconds(container.start_time, Fraction(1, av.time_base)) + declared - TAIL_SECONDS
        )
        if stream.index in ends and max(ends.values()) >= enough:
            return ends[stream.index]
        ends = _last_ends(container, stream, None)
        if ends and max(ends.values()) < enough:
            raise Failure("corrupt", f"truncated: {max(ends.values()):.1f} of {declared:.1f} s are there")
    else:
        ends = _last_ends(container, stream, None)
    if stream.index not in ends:
        raise Failure("corrupt", "no video frames")
    return ends[stream.index]


def _last_ends(container: InputContainer, stream: VideoStream, start: float | None) -> dict[int, float]:
    """Stream index -> end of its last packet, seconds, reading from the keyframe before `start` (None: from the beginning)."""
    ends: dict[int, float] = {}
    with contextlib.suppress(av.error.FFmpegError):
        container.seek(0 if start is None else max(0, int(start * av.time_base)), backward=True)
        for packet in container.demux(stream, *container.streams.audio[:1]):
            if packet.pts is not None:
                end = seconds(packet.pts + (packet.duration or 0), packet.time_base)
                ends[packet.stream.index] = max(ends.get(packet.stream.index, -math.inf), end)
    return ends
