"""Training samples from dataset shards. Every random choice is a function of (seed, pass over the data, clip key), so the content of
batch n depends neither on loader workers, nor on restarts, nor (for one global batch size) on the number of processes."""

import collections
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from tvts.config import UserError
from tvts.config.schema import Run
from tvts.corpus.media import read_all_frames, read_frames
from tvts.corpus.media.read import Reader
from tvts.corpus.shards import read_member
from tvts.corpus.status import Failure
from tvts.corpus.windows import digest, draw_window, segment_transcripts, window_seconds
from tvts.model import TVTSConfig, TVTSProcessor
from tvts.train.rows import Source, read_split


class Clips:
    """Reads frames of clips from tars by offset. Keeps decoded clips in memory up to `cache_gb`."""

    def __init__(self, folder: Path, reader: Reader, cache_gb: float = 0.0) -> None:
        self.folder, self.reader = folder, reader
        self.room = int(cache_gb * 1e9)
        self.cache: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()

    def frames(self, row: dict[str, Any], indices: Sequence[int]) -> np.ndarray:
        """Frames `indices` of the clip in `row`: uint8 [T, H, W, 3]. Raises Failure naming the clip."""
        try:
            return self._frames(row, indices)
        except Failure as failure:
            raise Failure(failure.status, f"clip {row['key']}: {failure.message}") from failure

    def _frames(self, row: dict[str, Any], indices: Sequence[int]) -> np.ndarray:
        if not self.room:
            return read_frames(self._member(row), indices, self.reader, row["keyframes"])
        if row["key"] not in self.cache:
            decoded = read_all_frames(self._member(row))
            self.room -= decoded.nbytes
            while self.room < 0 and self.cache:
                self.room += self.cache.popitem(last=False)[1].nbytes
            self.cache[row["key"]] = decoded
        self.cache.move_to_end(row["key"])
        return self.cache[row["key"]][list(indices)]

    def _member(self, row: dict[str, Any]) -> bytes:
        return read_member(self.folder / f"{row['shard']:05d}.tar", row["offset"], row["size"])


def generator(*identity: int | str) -> np.random.Generator:
    """A random generator that is a pure function of `identity`."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(*identity)[:16], "little")))


def first_readable(source: Source, count: int, index: int, read: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """What `read` gives for `index`, else for the next of `count` samples whose clip can be read; `replaced` = how many cannot.

    Raises UserError when none can.
    """
    for replaced in range(count):
        try:
            return read((index + replaced) % count) | {"replaced": replaced}
        except Failure as failure:
            print(f"dataset {source.name}: {failure}; the next one stands in")
    raise UserError(f"dataset {source.name}: none of its {count} clips can be read from {source.clips}")


class TrainingSet(Dataset[dict[str, Any]]):
    """Samples of one source.

    An item is addressed by (pass, row) and holds `frames` uint8 [T, 3, S, S], `transcripts` (K texts as shown),
    `positions` [K] (true position of each shown transcript), `keep` [n] (patches kept in every frame) or None,
    `key`, and `replaced` (unreadable clips that it stands in for).
    """

    def __init__(self, source: Source, run: Run, config: TVTSConfig, reader: Reader) -> None:
        self.source, self.run, self.image_size = source, run, config.vision_config.image_size
        self.rows = read_split(source, "train")
        assert run.data is not None
        self.data = run.data
        self.clips = Clips(source.clips, reader, run.data.cache_gb / max(1, run.data.workers))
        self.patches = config.num_patches
        self.kept = config.kept_patches(run.model.mask_ratio)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, address: tuple[int, int]) -> dict[str, Any]:
        turn, index = address
        return first_readable(self.source, len(self), index, lambda number: self._sample(number, turn))

    def _sample(self, number: int, turn: int) -> dict[str, Any]:
        row = self.rows[number]
        random = generator(self.run.seed, turn, row["key"])
        start, seconds, transcripts = self._text(row, turn)
        order = random.permutation(len(transcripts))
        count = self.run.model.frames
        moments = random.random(count) if self.data.frame_times != "middle" else 0.5
        times = start + (np.arange(count) + moments) * (seconds / count)
        numbers = frame_numbers(times, row)
        if self.data.frame_times == "keyframe":
            numbers = nearest(numbers, row["keyframes"])
        frames = self.clips.frames(row, numbers)
        side = round(self.data.crop * min(frames.shape[1:3]))
        top, left = (int(random.integers(0, extent - side + 1)) for extent in frames.shape[1:3])
        keep = np.sort(random.permutation(self.patches)[: self.kept]) if self.run.model.mask_ratio else None
        return {
            "key": row["key"],
            "frames": resize(frames[:, top : top + side, left : left + side], self.image_size),
            "transcripts": [transcripts[position] for position in order],
            "positions": torch.from_numpy(order),
            "keep": None if keep is None else torch.from_numpy(keep),
        }

    def _text(self, row: dict[str, Any], turn: int) -> tuple[float, float, list[str]]:
        """Start and length in seconds of the span to show, and its texts in order of time."""
        if self.source.settings.text == "caption":
            return 0.0, row["duration"], [row["caption"]]
        settings = self.source.settings
        windows = [(window["start"], window["length"]) for window in row["windows"]]
        start, length = draw_window(windows, self.run.seed, turn, row["key"])
        return start, window_seconds(length, settings), segment_transcripts(row["words"], start, length, settings)


def frame_numbers(times: np.ndarray, row: dict[str, Any]) -> list[int]:
    """Frames shown at `times` (s)."""
    return np.clip((times * row["fps"]).astype(int), 0, row["frames"] - 1).tolist()


def nearest(numbers: Sequence[int], keyframes: Sequence[int]) -> list[int]:
    """For each frame the keyframe closest to it; the earlier of two."""
    return [min(keyframes, key=lambda keyframe: abs(keyframe - number)) for number in numbers]


def resize(frames: np.ndarray, size: int) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> uint8 [T, 3, size, size], bilinear with antialiasing."""
    tensor = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if tensor.shape[-2:] == (size, size):
        return tensor.contiguous()
    return F.interpolate(tensor, (size, size), mode="bilinear", antialias=True)


class FixedWindows(Dataset[dict[str, Any]]):
    """The stored validation windows of a source: same frames, same shuffling in every evaluation."""

    def __init__(self, source: Source, frames: int, image_size: int, reader: Reader) -> None:
        self.source, self.frames, self.image_size = source, frames, image_size
        self.clips = Clips(source.clips, reader)
        self.items = [(row, window) for row in read_split(source, "validation") for window in row["fixed"]]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return first_readable(self.source, len(self), index, self._sample)

    def _sample(self, number: int) -> dict[str, Any]:
        row, window = self.items[number]
        settings = self.source.settings
        seconds = window_seconds(window["length"], settings)
        times = window["start"] + (np.arange(self.frames) + 0.5) * (seconds / self.frames)
        frames = self.clips.frames(row, frame_numbers(times, row))
        side = min(frames.shape[1:3])
        top, left = ((extent - side) // 2 for extent in frames.shape[1:3])
        texts = segment_transcripts(row["words"], window["start"], window["length"], settings)
        return {
            "key": row["key"],
            "start": window["start"],
            "length": window["length"],
            "frames": resize(frames[:, top : top + side, left : left + side], self.image_size),
            "transcripts": [texts[position] for position in window["order"]],
            "positions": torch.tensor(window["order"]),
            "keep": None,
        }


class GlobalBatches(Sampler[list[tuple[int, int]]]):
    """This process's part of each global batch, from optimiser step `first` on, as (pass, row) addresses.

    Samples are numbered 0, 1, 2, ... over all passes; pass p visits the rows in a permutation that depends on (seed, p) alone.
    """

    def __init__(self, rows: int, batch: int, steps: range, seed: int, rank: int, world: int) -> None:
        if batch % world:
            raise UserError(
                f"data.batch_size: {batch} clips cannot be shared by {world} processes; take a multiple of {world}"
            )
        self.rows, self.batch, self.steps, self.seed = rows, batch, steps, seed
        self.mine = slice(rank * batch // world, (rank + 1) * batch // world)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            yield [self._address(number) for number in range(step * self.batch, (step + 1) * self.batch)[self.mine]]

    def _address(self, number: int) -> tuple[int, int]:
        turn, place = divmod(number, self.rows)
        return turn, int(self._permutation(turn)[place])

    def _permutation(self, turn: int) -> np.ndarray:
        if getattr(self, "_turn", None) != turn:
            self._turn, self._order = turn, generator(self.seed, "order", turn).permutation(self.rows)
        return self._order


class Collate:
    """Samples -> batch: `frames` uint8 [B, T, 3, S, S], `input_ids` [B, K, L], `positions` [B, K], `keep` [B, n] or None,
    `keys`, and `replaced`, the number of samples in which another clip stands in for an unreadable one."""

    def __init__(self, processor: TVTSProcessor) -> None:
        self.processor = processor

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        texts = [sample["transcripts"] for sample in samples]
        keep = [sample["keep"] for sample in samples]
        return {
            "keys": [sample["key"] for sample in samples],
            "replaced": sum(sample["replaced"] > 0 for sample in samples),
            "frames": torch.stack([sample["frames"] for sample in samples]),
            "input_ids": self.processor(text=texts)["input_ids"],
            "positions": torch.stack([sample["positions"] for sample in samples]),
            "keep": None if keep[0] is None else torch.stack(keep),
        }


def loader(
    dataset: Dataset[dict[str, Any]],
    batches: Sampler[Any] | None,
    collate: Collate,
    workers: int,
    batch: int = 32,
) -> DataLoader[dict[str, Any]]:
    """A loader over `batches`, or over the whole dataset in order."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        batch_size=1 if batches is not None else batch,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="forkserver" if workers else None,
    )


def steps_per_pass(rows: int, batch: int) -> int:
    """Optimiser steps that see every row about once."""
    return max(1, math.ceil(rows / batch))
