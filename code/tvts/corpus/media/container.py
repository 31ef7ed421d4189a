"""Opening a media file safely: known containers and codecs, no network, no other files, bounded size; errors told by kind."""

import contextlib
import io
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from tvts.corpus.status import FULL_DISK, Failure

Source = Path | str | bytes | BinaryIO

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,asf,ogg,ivf"
"""Demuxers a file may be opened with: none that follows references to other files (playlists, concat, image sequences)."""
VIDEO_CODECS = (
    "av1", "flv1", "h261", "h263", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3", "theora",
    "vc1", "vp6f", "vp8", "vp9", "wmv1", "wmv2", "wmv3",
)  # fmt: skip
HEAD_BYTES = 512
MAX_PIXELS = 4096 * 4096
"""Per frame; larger ones are refused before they are decoded."""
MEMBER = re.compile(r"(?P<tar>.+\.tar)#(?P<offset>\d+)\+(?P<size>\d+)")
"""A path that names a part of a tar: a member's content, first byte and size."""


@contextlib.contextmanager
def opened(source: Source) -> Iterator[InputContainer]:
    """Open `source` for reading. Everything FFmpeg finds wrong with it becomes a Failure; a full disk stays an OSError."""
    file: Any = io.BytesIO(source) if isinstance(source, bytes) else str(source) if isinstance(source, Path) else source
    member = MEMBER.fullmatch(file) if isinstance(file, str) else None
    options = {"format_whitelist": FORMATS, "max_streams": "64", "enable_drefs": "0"}
    if isinstance(file, str):
        if not Path(member["tar"] if member else file).is_file():
            raise Failure("removed", "no such file")
        file = f"file:{file}" if member is None else _within(member)
        options["protocol_whitelist"] = "file" if member is None else "file,subfile"
    try:
        with av.open(file, options=options, metadata_errors="replace") as container:
            yield container
    except (av.error.MemoryError, MemoryError) as error:
        raise Failure("skipped_rule", "decoding needs more memory than is allowed for one video") from error
    except av.error.FFmpegError as error:
        if error.errno in FULL_DISK:
            raise OSError(error.errno, error.strerror) from error
        raise Failure("corrupt", _what_it_is(source) or f"cannot be decoded: {error.strerror}") from error


def video_stream(container: InputContainer) -> VideoStream:
    """The first real video stream (cover pictures do not count), one decoding thread. Raises Failure if there is none to decode."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise Failure("corrupt", "no video stream")
    stream = streams[0]
    codec = stream.codec_context
    if codec is None or (codec.name not in VIDEO_CODECS and codec.codec.canonical_name not in VIDEO_CODECS):
        raise Failure("unsupported_codec", f"video codec {codec.name if codec else 'unknown'} is not supported")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def seconds(value: int | None, time_base: Fraction | None) -> float:
    """A time stamp in seconds; 0 where the container gives none."""
    return float(value * time_base) if value is not None and time_base else 0.0


def _within(member: re.Match[str]) -> str:
    """FFmpeg's address of a part of a file."""
    begin = int(member["offset"])
    return f"subfile,,start,{begin},end,{begin + int(member['size'])},,:file:{member['tar']}"


def _what_it_is(source: Source) -> str | None:
    """What a file that is not a video is instead, from its first bytes."""
    head = _head(source)
    if head is None:
        return None
    text = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if text.startswith(b"#extm3u"):
        return "a playlist, not a video"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video"
    return None


def _head(source: Source) -> bytes | None:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    if not isinstance(source, Path | str):
        return None
    member = MEMBER.fullmatch(str(source))
    with open(member["tar"] if member else source, "rb") as file:
        file.seek(int(member["offset"]) if member else 0)
        return file.read(min(HEAD_BYTES, int(member["size"])) if member else HEAD_BYTES)
