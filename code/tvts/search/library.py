"""Features of videos span by span, computed once and kept by content: of the video, the model and the settings, wherever the file lies.

One small Parquet file per video, renamed into place when the video is done, so work that is stopped continues. Videos are untrusted:
`look` workers read them, and one that cannot be read is an answer with a reason.
"""

import os
import queue
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from tvts.config import UserError
from tvts.corpus.lists import VIDEO_SUFFIXES
from tvts.corpus.status import Failure, Status
from tvts.corpus.worker import Worker
from tvts.evaluate.device import pick_device
from tvts.evaluate.encoders import load_tvts, model_hash
from tvts.evaluate.pixels import Preset, Video, to_batch
from tvts.files import atomic, sha256_file, sha256_json
from tvts.model.processing import PIXELS, resize_and_crop

BATCH = 8
"""Spans encoded together."""
LOOK_SECONDS = 120.0
"""A span that takes longer to read is given up."""
PICTURE_HEIGHT = 96
PICTURE_FRAMES = 3
SPANS = pa.schema(
    {"start": pa.float64(), "end": pa.float64(), "frames": pa.int32(), "features": pa.list_(pa.float32()), "picture": pa.binary()}
)  # fmt: skip
WITHOUT_PICTURE = [name for name in SPANS.names if name != "picture"]
FEATURES = pa.schema(
    {
        "video": pa.string(), "sha256": pa.string(), "status": pa.string(), "message": pa.string(), "start": pa.float64(),
        "end": pa.float64(), "frames": pa.int32(), "features": pa.list_(pa.float32()), "model": pa.string(), "pixels": pa.string(),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Embedded:
    """A video and its spans (`SPANS` without pictures, in order of time); none, and why, when it cannot be read.

    `file`: where they are kept. `kept`: nothing had to be computed.
    """

    path: Path
    sha256: str
    spans: pa.Table
    status: Status = "ok"
    message: str = ""
    file: Path | None = None
    kept: bool = False

    def picture(self, row: int) -> bytes:
        """JPEG of a span's frames."""
        return bytes(pq.read_table(self.file, columns=["picture"])["picture"][row].as_py())


class _Read(NamedTuple):
    start: float
    end: float
    video: Video
    picture: bytes


class Library:
    """A model and the features it has given so far.

    folder: a model folder (`save_pretrained`). seconds: length of a span, half of which overlaps the next; None = the whole video.
    keep: where features are kept. threads: cores that decode and compute.
    """

    def __init__(
        self, folder: Path, seconds: float | None, keep: Path, threads: int, device: Literal["auto", "cpu", "cuda"]
    ):
        torch.set_num_threads(threads)
        self.device = pick_device(device)
        disable_progress_bar()
        self.encoder = load_tvts(folder, 1, self.device)
        config = self.encoder.model.config
        self.preset = Preset(self.encoder.processor.pixels, self.encoder.image_size, config.num_frames, "pyav")
        self.model, self.seconds, self.keep, self.threads = model_hash(folder), seconds, keep, threads

    def embed(self, videos: Sequence[Path]) -> Iterator[Embedded]:
        """The videos in their order, each as soon as it is done."""
        with ExitStack() as stack:
            workers: queue.SimpleQueue[Worker] = queue.SimpleQueue()
            for _ in range(self.threads):
                workers.put(stack.enter_context(Worker("look")))
            pool = stack.enter_context(ThreadPoolExecutor(self.threads))
            for path in videos:
                try:
                    yield self._one(path, self._sha256(path), workers, pool)
                except Failure as failure:
                    yield Embedded(path, "", SPANS.empty_table(), failure.status, failure.message)

    def text(self, text: str) -> np.ndarray:
        """Features [E] of a text, of length 1."""
        with torch.inference_mode():
            features = self.encoder.text([text])[0].float().cpu().numpy()
        return features / np.linalg.norm(features)

    def _one(self, path: Path, sha256: str, workers: "queue.SimpleQueue[Worker]", pool: ThreadPoolExecutor) -> Embedded:
        key = sha256_json([sha256, self.model, self.preset.describe(), self.seconds])
        kept = self.keep / key[:2] / f"{key}.parquet"
        if kept.exists():
            return Embedded(path, sha256, pq.read_table(kept, columns=WITHOUT_PICTURE), file=kept, kept=True)
        duration = _call(workers, {"video": str(path)})["duration"]
        reads = self._reads(path, spans(duration, self.seconds), workers, pool)
        rows = [row for batch in _batches(reads) for row in self._encode(batch)]
        if not rows:
            raise Failure("corrupt", "no span of it can be decoded")
        table = pa.Table.from_pylist(rows, schema=SPANS)
        with atomic(kept) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return Embedded(path, sha256, table.select(WITHOUT_PICTURE), file=kept)

    def _sha256(self, path: Path) -> str:
        """Of a file's content; read again only when its size or time of change say that it may be another."""
        try:
            stat = path.stat()
            known = self.keep / "files" / sha256_json([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
            if not known.exists():
                with atomic(known) as temporary:
                    temporary.write_text(sha256_file(path), encoding="utf-8")
            return known.read_text(encoding="utf-8")
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise Failure("removed", str(error.strerror)) from None

    def _reads(
        self,
        path: Path,
        wanted: list[tuple[float, float]],
        workers: "queue.SimpleQueue[Worker]",
        pool: ThreadPoolExecutor,
    ) -> "Iterator[_Read | None]":
        """The spans in order, at most four per thread read ahead."""
        rest = iter(wanted)
        ahead: list[Future[_Read | None]] = [
            pool.submit(self._read, path, *span, workers) for span in islice(rest, 4 * self.threads)
        ]
        while ahead:
            read = ahead.pop(0).result()
            ahead += [pool.submit(self._read, path, *span, workers) for span in islice(rest, 1)]
            yield read

    def _read(self, path: Path, start: float, end: float, workers: "queue.SimpleQueue[Worker]") -> _Read | None:
        """Frames of a span as the model wants them, and its picture; None where the video is damaged."""
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            request = {"video": str(path), "start": start, "seconds": end - start, "count": self.preset.frames}
            try:
                _call(workers, {**request, "output": file.name})
            except Failure:
                return None
            frames = np.load(file.name)
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
        video = Video(resize_and_crop(pixels, self.preset.image_size, PIXELS[self.preset.pixels]).contiguous())
        return _Read(start, end, video, picture(frames))

    def _encode(self, batch: list[_Read]) -> list[dict[str, object]]:
        with torch.inference_mode():
            pixels = to_batch((read.video for read in batch), self.preset, self.device)
            features = self.encoder.video(*pixels).float().cpu().numpy()
        return [
            {
                "start": read.start,
                "end": read.end,
                "frames": len(read.video.frames),
                "features": row,
                "picture": read.picture,
            }
            for read, row in zip(batch, features, strict=True)
        ]


def spans(duration: float, seconds: float | None) -> list[tuple[float, float]]:
    """(start, end) of the spans of a video, seconds: each half over the one before, the last one ending where the video ends."""
    if seconds is None or duration <= seconds:
        return [(0.0, duration)]
    starts = [step * seconds / 2 for step in range(int((duration - seconds) / (seconds / 2)) + 1)]
    if starts[-1] + seconds < duration - 1e-3:
        starts.append(duration - seconds)
    return [(start, start + seconds) for start in starts]


def find_videos(place: Path) -> list[Path]:
    """The video files in a folder and its subfolders, by name. Raises UserError if there are none."""
    if not place.is_dir():
        raise UserError(f"{place}: no such folder; expected one with video files in it")
    found = sorted(path for path in place.rglob("*") if path.suffix[1:].lower() in VIDEO_SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{place}: no video files; looked for {', '.join(sorted(VIDEO_SUFFIXES))}")
    return found


def write_features(library: Library, videos: Iterator[Embedded], output: Path) -> int:
    """Write one row per span, and one per unreadable video with its reason; returns the number of spans.

    `features` [E] are as the model gives them, not normalised.
    """
    rows = []
    for video in videos:
        about = {
            "video": os.fsencode(video.path).decode("utf-8", "replace"),
            "sha256": video.sha256,
            "status": video.status,
            "message": video.message,
            "model": library.model,
            "pixels": library.preset.describe(),
        }
        rows += [about | span for span in video.spans.to_pylist()] or [about]
    with atomic(output) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=FEATURES), temporary, compression="zstd")
    return sum(row["status"] == "ok" for row in rows)


def picture(frames: np.ndarray) -> bytes:
    """JPEG of the first, middle and last of uint8 RGB [T, H, W, 3], side by side."""
    chosen = [frames[round(at * (len(frames) - 1))] for at in np.linspace(0, 1, PICTURE_FRAMES)]
    width = max(1, round(PICTURE_HEIGHT * chosen[0].shape[1] / chosen[0].shape[0]))
    strip = Image.new("RGB", (PICTURE_FRAMES * width, PICTURE_HEIGHT))
    for place, frame in enumerate(chosen):
        strip.paste(Image.fromarray(frame).resize((width, PICTURE_HEIGHT)), (place * width, 0))
    file = BytesIO()
    strip.save(file, "JPEG", quality=80)
    return file.getvalue()


def _call(workers: "queue.SimpleQueue[Worker]", request: dict[str, object]) -> dict[str, float]:
    worker = workers.get()
    try:
        return dict(worker.call(request, LOOK_SECONDS))
    finally:
        workers.put(worker)


def _batches(reads: Iterator[_Read | None]) -> Iterator[list[_Read]]:
    batch: list[_Read] = []
    for read in reads:
        batch += [read] if read else []
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
