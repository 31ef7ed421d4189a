"""Frames of one span of any video, by time: seeks there, reads on to its end and decodes no more than that."""

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tvts.corpus.media.container import Source, opened, video_stream
from tvts.corpus.media.read import frame_indices
from tvts.corpus.status import Failure


def read_span(source: Source, start: float, seconds: float, count: int) -> np.ndarray:
    """uint8 RGB [T, H, W, 3]: the middle frames of `count` equal segments of a span, all of its T frames if there are fewer.

    `start` counts from the video's first frame. A span that holds the whole video gives the frames of `frame_indices`.
    Raises Failure if nothing in the span can be decoded.
    """
    with opened(source) as container:
        stream = video_stream(container)
        begin = (stream.start_time or 0) + round(start / float(stream.time_base or 1))
        end = begin + round(seconds / float(stream.time_base or 1))
        stamps = _stamps(container, stream, begin, end)
        if not stamps:
            raise Failure("corrupt", f"no frames between {start:.1f} and {start + seconds:.1f} s")
        return _frames(container, stream, begin, [stamps[index] for index in frame_indices(len(stamps), count)])


def _stamps(container: InputContainer, stream: VideoStream, begin: int, end: int) -> list[int]:
    """Times of the span's frames in units of the stream's time base, from its packets alone."""
    container.seek(begin, stream=stream, backward=True)
    found = set()
    for packet in container.demux(stream):
        if packet.dts is not None and packet.dts >= end:
            break
        stamp = _stamp(packet)
        if packet.size and not packet.is_discard and stamp is not None and begin <= stamp < end:
            found.add(stamp)
    return sorted(found)


def _frames(container: InputContainer, stream: VideoStream, begin: int, wanted: list[int]) -> np.ndarray:
    """The frames shown at the wanted times, in one pass; where the last ones cannot be decoded, those before them."""
    container.seek(begin, stream=stream, backward=True)
    scaler = VideoReformatter()
    pictures: list[np.ndarray] = []
    for frame in container.decode(stream):
        stamp = _stamp(frame)
        if stamp is None or stamp < wanted[len(pictures)]:
            continue
        first = pictures[0] if pictures else None
        width, height = (frame.width, frame.height) if first is None else (first.shape[1], first.shape[0])
        pictures.append(scaler.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray())
        if len(pictures) == len(wanted):
            break
    if not pictures:
        raise Failure("corrupt", "no frame can be decoded")
    return np.stack(pictures)


def _stamp(timed: Packet | VideoFrame) -> int | None:
    """When it is shown; AVI tells only when it is decoded."""
    return timed.pts if timed.pts is not None else timed.dts
