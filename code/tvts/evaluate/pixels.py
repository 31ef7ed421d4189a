"""From a benchmark's video to the frames a model sees: 12 segment middles, resized and cropped by a named preset
(protocol 1.1 to 1.3).
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tvts.corpus.media import count_frames, frame_indices, read_frames
from tvts.corpus.status import Failure
from tvts.model.processing import PIXELS, normalize_frames, resize_and_crop


class Preset(NamedTuple):
    """How videos become frames: `pixels` as in `evaluation.pixels`, the model's image size, frames per video, reader."""

    pixels: Literal["official", "clip"]
    image_size: int
    frames: int
    reader: Literal["pyav", "decord"]

    def describe(self) -> str:
        """One line for the metadata of features."""
        pixels = PIXELS[self.pixels]
        short = int(self.image_size * pixels.scale)
        return (
            f"{self.pixels}: {self.frames} segment middles, short side {short} {pixels.filter}, "
            f"centre {self.image_size}, mean {pixels.mean}, sd {pixels.std}, reader {self.reader}"
        )


class Video(NamedTuple):
    """Frames of one video: uint8 [t, 3, S, S], t at most the preset's frames.

    `problem` says why there is only one black frame.
    """

    frames: Tensor
    problem: Literal["missing", "unreadable"] | None = None


def load_video(path: Path, preset: Preset) -> Video:
    """Read one video.

    One that is absent or cannot be decoded becomes a black frame, as in the official `lax` loading.
    """
    if not path.is_file():
        return _black(preset, "missing")
    try:
        indices = frame_indices(count_frames(path), preset.frames)
        if not indices:
            return _black(preset, "unreadable")
        frames = torch.from_numpy(read_frames(path, indices, preset.reader)).permute(0, 3, 1, 2)
    except (Failure, IndexError):
        return _black(preset, "unreadable")
    return Video(resize_and_crop(frames, preset.image_size, PIXELS[preset.pixels]).contiguous())


def load_videos(paths: Sequence[Path], preset: Preset, threads: int) -> Iterator[Video]:
    """Videos in the order of `paths`, read ahead by `threads` threads; at most four videos per thread wait in memory."""
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        rest = iter(paths)
        ahead: list[Future[Video]] = [pool.submit(load_video, path, preset) for path in islice(rest, 4 * threads)]
        while ahead:
            video = ahead.pop(0).result()
            ahead.extend(pool.submit(load_video, path, preset) for path in islice(rest, 1))
            yield video


def to_batch(videos: Iterable[Video], preset: Preset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised pixels [B, T, 3, S, S] and which frames are real [B, T].

    Slots past the end of a short video are 0 after normalisation.
    """
    loaded = list(videos)
    pixels = torch.zeros(len(loaded), preset.frames, 3, preset.image_size, preset.image_size, dtype=torch.uint8)
    real = torch.zeros(len(loaded), preset.frames, dtype=torch.bool)
    for row, video in enumerate(loaded):
        pixels[row, : len(video.frames)] = video.frames
        real[row, : len(video.frames)] = True
    pixels, real = pixels.to(device), real.to(device)
    statistics = PIXELS[preset.pixels]
    normalised = normalize_frames(pixels, statistics.mean, statistics.std)
    return normalised * real[:, :, None, None, None], real


def _black(preset: Preset, problem: Literal["missing", "unreadable"]) -> Video:
    return Video(torch.zeros(1, 3, preset.image_size, preset.image_size, dtype=torch.uint8), problem)
