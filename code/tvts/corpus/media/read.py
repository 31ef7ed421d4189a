"""Read frames back: a few of them (seeking from keyframe to keyframe) or all, by PyAV or by decord with equal results."""

import bisect
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tvts.corpus.media.container import Source, opened, video_stream
from tvts.corpus.status import Failure

Reader = Literal["pyav", "decord"]


def frame_indices(frames: int, count: int) -> list[int]:
    """Middle frame of each of `count` equal segments of a video of `frames` frames; all frames if there are fewer.

    The official "uniform" rule (TVTS:v2/base/base_dataset.py, `sample_frames`): floor((b_i + b_{i+1} - 1) / 2) with bounds
    b_i = floor(frames * i / count).
    """
    count = min(count, frames)
    bounds = [frames * i // count for i in range(count + 1)]
    return [(low + high - 1) // 2 for low, high in itertools.pairwise(bounds)]


def read_frames(
    source: Source, indices: Sequence[int], reader: Reader = "pyav", keyframes: Sequence[int] | None = None
) -> np.ndarray:
    """uint8 RGB [len(indices), H, W, 3]: the frames of the given numbers, in the given order, repeats allowed.

    `keyframes` are the frame numbers stored in the index of our own clips (constant rate, first frame at 0); without them the packets are
    scanned first. Raises IndexError for a number the video does not have, Failure if it cannot be decoded.
    """
    if reader == "decord":
        return _read_decord(source, indices)
    wanted = sorted(set(indices))
    if not wanted:
        raise ValueError("indices are empty; ask for at least one frame")
    with opened(source) as container:
        stream = video_stream(container)
        timeline = (
            _stored_timeline(stream, keyframes) if keyframes is not None else _scanned_timeline(container, stream)
        )
        frames = _sparse(container, stream, wanted, timeline) if timeline else _counted(container, stream, wanted)
        return _gathered(frames, indices)


def read_all_frames(source: Source) -> np.ndarray:
    """uint8 RGB [N, H, W, 3]: every frame, in display order. Raises Failure if there is none."""
    with opened(source) as container:
        frames = container.decode(video_stream(container))
        first, scaler = next(frames, None), VideoReformatter()
        if first is None:
            raise Failure("corrupt", "no frame can be decoded")
        return np.stack([_rgb(frame, first.width, first.height, scaler) for frame in itertools.chain([first], frames)])


def count_frames(source: Source) -> int:
    """Number of frames that `read_frames` and `read_all_frames` give."""
    with opened(source) as container:
        stream = video_stream(container)
        timeline = _scanned_timeline(container, stream)
        return len(timeline.times) if timeline else sum(1 for _ in container.decode(stream))


@dataclass(frozen=True)
class _Timeline:
    times: Sequence[int]
    """Presentation time of each frame, in units of the stream's time base."""
    keyframes: Sequence[int]
    """Frame numbers."""


def _stored_timeline(stream: VideoStream, keyframes: Sequence[int]) -> _Timeline:
    step = int(1 / (Fraction(stream.average_rate or 1) * Fraction(stream.time_base or 1)))
    return _Timeline(range(0, stream.frames * step, step), keyframes)


def _scanned_timeline(container: InputContainer, stream: VideoStream) -> _Timeline | None:
    """From the packets, without decoding; packets that an edit list hides are not frames. None where packets do not tell (AVI).

    Leaves the container at its beginning.
    """
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    container.seek(0, backward=True)
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    times = sorted(set(stamps))
    if not packets or len(times) < len(packets):
        return None
    keys = [packet.is_keyframe for packet in packets]
    return _Timeline(
        times, sorted(bisect.bisect_left(times, stamp) for stamp, key in zip(stamps, keys, strict=True) if key)
    )


def _sparse(
    container: InputContainer, stream: VideoStream, wanted: list[int], timeline: _Timeline
) -> dict[int, VideoFrame]:
    """Decode the wanted frames, jumping only where a keyframe lies between the decoder's position and the next wanted frame."""
    _check_range(wanted, len(timeline.times))
    found: dict[int, VideoFrame] = {}
    decoder, position = container.decode(stream), 0
    frame: VideoFrame | None = None
    for number in wanted:
        time = timeline.times[number]
        keyframe = timeline.keyframes[max(0, bisect.bisect_right(timeline.keyframes, number) - 1)]
        if keyframe > position:
            container.seek(timeline.times[keyframe], stream=stream, backward=True)
            decoder = container.decode(stream)
            frame = next(decoder, None)
            if frame is None or frame.pts is None or frame.pts > time:
                container.seek(0, backward=True)
                decoder, frame = container.decode(stream), None
        while frame is None or frame.pts is None or frame.pts < time:
            frame = next(decoder, None)
            if frame is None:
                raise Failure("corrupt", f"frame {number} of {len(timeline.times)} cannot be decoded")
        found[number], position = frame, number
    return found


def _counted(container: InputContainer, stream: VideoStream, wanted: list[int]) -> dict[int, VideoFrame]:
    """Decode from the beginning, counting frames."""
    chosen, found, count = set(wanted), {}, 0
    for count, frame in enumerate(container.decode(stream), start=1):
        if count - 1 in chosen:
            found[count - 1] = frame
    _check_range(wanted, count)
    return found


def _check_range(wanted: list[int], count: int) -> None:
    for number in wanted:
        if not 0 <= number < count:
            raise IndexError(f"frame {number} of a video of {count} frames")


def _gathered(frames: dict[int, VideoFrame], indices: Sequence[int]) -> np.ndarray:
    first, scaler = frames[indices[0]], VideoReformatter()
    output = np.empty((len(indices), first.height, first.width, 3), np.uint8)
    for place, number in enumerate(indices):
        output[place] = _rgb(frames[number], first.width, first.height, scaler)
    return output


def _rgb(frame: VideoFrame, width: int, height: int, scaler: VideoReformatter) -> np.ndarray:
    return scaler.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()


def _read_decord(source: Source, indices: Sequence[int]) -> np.ndarray:
    """decord, opened for this one read (while open it decodes ahead without limit); for our own clips alone: its FFmpeg is of 2018."""
    import decord

    file = io.BytesIO(source) if isinstance(source, bytes) else str(source) if isinstance(source, Path) else source
    try:
        video = decord.VideoReader(file, num_threads=1, fault_tol=1)
        return video.get_batch(list(indices)).asnumpy()
    except decord.DECORDError as error:
        raise Failure("corrupt", f"decord cannot decode it: {str(error).splitlines()[0]}") from error
