"""Cost of the corpus: core-seconds per clip for cutting and for speech recognition, and bytes per clip, measured on this machine."""

import hashlib
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypedDict

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from rich.console import Console
from rich.table import Table

from tvts.config import Fetch, Transcribe, UserError
from tvts.corpus.cut import cut
from tvts.corpus.shards import TarWriter
from tvts.corpus.transcribe import make_engine
from tvts.corpus.transcribe.engine import Clip, Listener

SIZE, FPS, SECONDS = (640, 360), 30, 90
"""The synthetic video: as large as what is fetched of a usual upload, and long enough for three spans."""
MIN_CLIPS = 4
"""Cut at least; and transcribed by engines that take one clip after another (others: two batches)."""


class Spread(TypedDict):
    """Median and quartiles."""

    low: float
    median: float
    high: float


class CorpusBench(TypedDict):
    """One measurement. Core-seconds are user and system time, of child processes too."""

    source: str
    clips: int
    clip_seconds: float
    cut_core_seconds: Spread
    clip_bytes: Spread
    engine: str
    device: str
    asr_clips: int
    asr_core_seconds: float
    asr_wall_seconds: float
    real_time_factor: float
    words: int


def bench_corpus(
    videos: Sequence[Path], fetch: Fetch, transcribe: Transcribe, seconds: float = 20.0, threads: int = 1
) -> CorpusBench:
    """Cut clips of `videos` (none = a synthetic one), with new seeds for about `seconds`, then transcribe some of them.

    Starting the engine is not counted. Raises UserError if a video cannot be cut.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = "own videos" if videos else f"synthetic {SIZE[0]}x{SIZE[1]}, {FPS} fps"
        videos = videos or [_synthetic(folder / "synthetic.mp4")]
        costs, rows = _cut(videos, fetch, folder, seconds)
        clips = _pack(rows, folder)
        engine = make_engine(transcribe, threads)
        if isinstance(engine, Listener):
            engine.load()
        begun, spent = time.perf_counter(), _core_seconds()
        heard = clips[: 2 * transcribe.batch_size if isinstance(engine, Listener) else MIN_CLIPS]
        transcripts = list(engine.transcribe(heard))
        wall, core = time.perf_counter() - begun, _core_seconds() - spent
    sound = sum(clip.duration for clip in heard)
    return {
        "source": source,
        "clips": len(clips),
        "clip_seconds": statistics.mean(clip.duration for clip in clips),
        "cut_core_seconds": _spread(costs),
        "clip_bytes": _spread([float(clip.size) for clip in clips]),
        "engine": transcribe.engine,
        "device": getattr(engine, "device", "cpu"),
        "asr_clips": len(heard),
        "asr_core_seconds": core / len(heard),
        "asr_wall_seconds": wall / len(heard),
        "real_time_factor": wall / sound,
        "words": sum(len(transcript.words) for transcript in transcripts),
    }


def print_bench(result: CorpusBench) -> None:
    """Print a measurement as a table."""
    cost, size = result["cut_core_seconds"], result["clip_bytes"]
    table = Table(title="tvts bench corpus", show_header=False)
    rows = {
        "source": f"{result['source']}, {result['clips']} clips of {result['clip_seconds']:.1f} s",
        "cut": f"{cost['median']:.2f} core-s per clip (quartiles {cost['low']:.2f} to {cost['high']:.2f})",
        "size": f"{size['median'] / 1e6:.2f} MB per clip (quartiles {size['low'] / 1e6:.2f} to {size['high'] / 1e6:.2f})",
        f"{result['engine']}, {result['device']}": f"{result['asr_core_seconds']:.2f} core-s, {result['asr_wall_seconds']:.2f} s per clip, "
        f"{result['real_time_factor']:.3f} x real time, {result['words']} words in {result['asr_clips']} clips",
    }
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)


def _cut(
    videos: Sequence[Path], fetch: Fetch, folder: Path, seconds: float
) -> tuple[list[float], list[dict[str, object]]]:
    """Core-seconds of each clip (a video's shared by its clips), and the clips' rows."""
    settings, deadline = fetch.model_dump(mode="json"), time.perf_counter() + seconds
    costs: list[float] = []
    rows: list[dict[str, object]] = []
    seed = 0
    while len(rows) < MIN_CLIPS or time.perf_counter() < deadline:
        for number, video in enumerate(videos):
            stem = folder / f"{seed:04d}{number:04d}"
            request = {"id": video.name, "video": str(video), "audio": None, "settings": settings, "seed": seed}
            begun = _core_seconds()
            found = [row for row in cut(request | {"stem": str(stem)}) if row["status"] == "ok"]
            costs += [(_core_seconds() - begun) / max(1, len(found))] * len(found)
            rows += found
        if not rows:
            raise UserError(f"{videos[0]}: none of its spans can be cut; give a video that plays")
        seed += 1
    return costs, rows


def _pack(rows: list[dict[str, object]], folder: Path) -> list[Clip]:
    """The clips in a tar, as engines are given them."""
    clips, tar = [], folder / "0.tar"
    with tar.open("wb") as file:
        writer = TarWriter(file)
        for number, row in enumerate(rows):
            offset, size = writer.add(f"{number:06d}.mp4", folder / str(row["file"]))
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            clips.append(
                Clip(
                    key=f"{number:06d}", id=str(number), start=0.0, duration=float(str(row["duration"])), audio=bool(row["audio"]),
                    sha256=digest, tar=tar, offset=offset, size=size,
                )
            )  # fmt: skip
        writer.close()
    return clips


def _core_seconds() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _spread(values: list[float]) -> Spread:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"low": low, "median": median, "high": high}


def _synthetic(path: Path) -> Path:
    """A camera that pans over a textured scene with grain, and a noise that comes and goes as syllables do; the same every time."""
    draw, (width, height) = np.random.default_rng(0), SIZE
    scene = np.zeros((2 * height, 3 * width, 3))
    for cell in (8, 20, 60):
        coarse = draw.uniform(0, 255, (2 * height // cell + 1, 3 * width // cell + 1, 3))
        scene += coarse.repeat(cell, 0).repeat(cell, 1)[: 2 * height, : 3 * width] / 3
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23", "threads": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=44_100, layout="mono")
        grain = draw.normal(0, 2, (8, height, width, 1))
        for number in range(SECONDS * FPS):
            x, y = (
                round((1 + np.sin(number / period)) / 2 * room) for period, room in ((150, 2 * width), (230, height))
            )
            picture = scene[y : y + height, x : x + width] + grain[number % len(grain)]
            container.mux(video.encode(VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")))
        container.mux(video.encode(None))
        times = np.arange(SECONDS * 44_100) / 44_100
        sound = (draw.normal(0, 0.1, len(times)) * np.clip(np.sin(2 * np.pi * 2 * times), 0, 1)).astype(np.float32)
        for at in range(0, len(sound), 1024):
            part = AudioFrame.from_ndarray(sound[None, at : at + 1024], "fltp", "mono")
            part.sample_rate, part.pts, part.time_base = 44_100, at, Fraction(1, 44_100)
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return path
