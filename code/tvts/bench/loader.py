"""Cost of the frames of one training window: from our shards with either reader, and from the original as the official loader reads."""

import io
import statistics
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from tvts.config import Fetch
from tvts.corpus.media import read_frames, transcode
from tvts.corpus.shards import TarWriter, read_member
from tvts.train.data import nearest, resize

SECONDS, WINDOW, FRAMES, SIZE, CROP = 60.0, 17.0, 12, 224, 0.836
"""Length of the original, of a window (K = 4 segments of 3 to 5 s, gaps of 1 s), frames in it, and what they become."""


GRAIN = 12
"""Of 256 levels."""


class LoaderBench(TypedDict):
    """CPU milliseconds per window (median, 10th and 90th percentile), by way of reading."""

    original: str
    windows: int
    ways: dict[str, tuple[float, float, float]]


def bench_loader(video: Path | None = None, windows: int = 50, seed: int = 0) -> LoaderBench:
    """Read `windows` random windows of 12 frames each in every way, in turns, on one core.

    `video`: the original; without one a film is made. The official loader opens it with decord and takes the frames at full
    size; all ways then crop and resize alike.
    """
    with TemporaryDirectory() as scratch:
        original = video or _film(Path(scratch) / "original.mp4")
        clip = transcode(original, 0.0, 30.0, Fetch(), Path(scratch) / "clip.mp4")
        tar = Path(scratch) / "00000.tar"
        with open(tar, "wb") as file:
            writer = TarWriter(file)
            offset, size = writer.add("0_00000.mp4", Path(scratch) / "clip.mp4")
            writer.close()
        rate, length = _rate_and_length(original)

        def ours(times: np.ndarray, reader: str, at_keyframes: bool = False) -> np.ndarray:
            indices = np.clip((times * clip.fps).astype(int), 0, clip.frames - 1).tolist()
            if at_keyframes:
                indices = nearest(indices, clip.keyframes)
            return read_frames(read_member(tar, offset, size), indices, reader, clip.keyframes)  # type: ignore[arg-type]

        ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "our shard, PyAV": lambda times: ours(times, "pyav"),
            "our shard, PyAV, at keyframes": lambda times: ours(times, "pyav", at_keyframes=True),
            "our shard, decord": lambda times: ours(times, "decord"),
            "original file, decord": lambda times: _as_official(
                original, np.clip((times * rate).astype(int), 0, length - 1).tolist()
            ),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        random = np.random.default_rng(seed)
        for _ in range(windows):
            start = random.uniform(0, clip.duration - WINDOW)
            times = start + (np.arange(FRAMES) + random.random(FRAMES)) * (WINDOW / FRAMES)
            for way, read in ways.items():
                began = time.process_time()
                _to_pixels(read(times))
                taken[way].append(1e3 * (time.process_time() - began))
    described = str(video) if video else "made: 640x360, 30 frames/s, x264 defaults, keyframe every 250 frames"
    return {"original": described, "windows": windows, "ways": {way: _spread(each) for way, each in taken.items()}}


def print_bench(result: LoaderBench) -> None:
    """Print a measurement as a table."""
    slowest = result["ways"]["original file, decord"][0]
    table = Table("12 frames from", "CPU ms", "10-90 %", "per s", "ratio")
    for way, (middle, low, high) in result["ways"].items():
        ratio = f"{slowest / middle:.1f}x"
        table.add_row(way, f"{middle:.1f}", f"{low:.0f}-{high:.0f}", f"{1e3 / middle:.0f}", ratio)
    Console().print(f"tvts bench loader: {result['windows']} windows on one core; original {result['original']}", table)


def _as_official(original: Path, indices: Sequence[int]) -> np.ndarray:
    import decord

    return decord.VideoReader(io.BytesIO(original.read_bytes()), num_threads=1).get_batch(list(indices)).asnumpy()


def _to_pixels(frames: np.ndarray) -> None:
    side = round(CROP * min(frames.shape[1:3]))
    resize(frames[:, :side, :side], SIZE)


def _spread(values: list[float]) -> tuple[float, float, float]:
    deciles = statistics.quantiles(values, n=10)
    return statistics.median(values), deciles[0], deciles[-1]


def _rate_and_length(path: Path) -> tuple[float, int]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float(stream.average_rate or 25), stream.frames


def _film(path: Path) -> Path:
    """Textured ground that drifts under a little grain, and a bright square that crosses it: 550 kbit/s, as real films of this size."""
    random = np.random.default_rng(0)
    coarse = random.integers(40, 200, (30, 50, 3), np.uint8)
    ground = coarse.repeat(24, 0).repeat(24, 1)[:720, :1200] // 2 + random.integers(0, 24, (720, 1200, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"g": "250", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(int(SECONDS * 30)):
            top, left = int(150 + 140 * np.sin(number / 90)), int(250 + 240 * np.cos(number / 130))
            image = ground[top : top + 360, left : left + 640].copy()
            image += random.integers(0, GRAIN, (360, 640, 1), np.uint8)
            across = number * 4 % 560
            image[120:200, across : across + 80] = (250, 220, 90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
