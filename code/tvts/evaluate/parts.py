"""Frozen video features in parts of one batch, each kept under the hash of what it was made from.

A part's name is the hash of model, code, preprocessing and its files (path, size, time of change). So a killed job
continues with what is not there, a video that was changed or added is encoded anew, other prompts or protocols encode no
video again, and several processes share the parts of a job without talking to each other. The folder may be deleted.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, multiprocessing

from tvts.evaluate.device import pick_device
from tvts.evaluate.encoders import Encoder, load_encoder
from tvts.evaluate.features import read_features, write_features
from tvts.evaluate.pixels import Preset, load_videos, to_batch
from tvts.files import sha256_json

PROGRESS_SECONDS = 5.0

Log = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """How videos become features."""

    model: Path
    kind: Literal["tvts", "clip"]
    preset: Preset
    batch_size: int
    device: Literal["auto", "cpu", "cuda"]
    identity: str
    """Hash of model and code."""
    cache: Path
    """Folder of the parts."""
    processes: int = 1
    """They share the parts, each on a GPU of its own where there are GPUs."""
    threads: int = 1
    """CPU cores, over all processes."""


class Part(NamedTuple):
    """Videos that are encoded together, and the file of their features."""

    paths: tuple[Path, ...]
    file: Path


class Encoded(NamedTuple):
    """Features [V, E] of V videos, and for each what kept it from giving frames of its own."""

    features: Tensor
    problems: list[str | None]


def encode_videos(recipe: Recipe, encoder: Encoder, paths: Sequence[Path], what: str, log: Log) -> Encoded:
    """Features of videos in the order of `paths`. `encoder` is the recipe's model, loaded in this process."""
    parts = list(split(recipe, paths))
    todo = [part for part in parts if not part.file.exists()]
    if len(todo) < len(parts):
        log(f"{what}: {len(parts) - len(todo)} of {len(parts)} batches are there already")
    processes = min(recipe.processes, len(todo))
    others: Any = None
    if processes > 1:
        arguments = (recipe, todo, processes, what)
        others = multiprocessing.spawn(_help, arguments, nprocs=processes - 1, join=False)
    _encode(recipe, encoder, todo[:: max(1, processes)], pick_device(recipe.device), what, log)
    while others is not None and not others.join():
        pass
    found = [read_features(part.file) for part in parts]
    problems = [problem for features in found for problem in features.about["problems"]]
    return Encoded(torch.cat([features["video"] for features in found]), problems)


def split(recipe: Recipe, paths: Sequence[Path]) -> Iterator[Part]:
    """The parts of a list of videos."""
    for at in range(0, len(paths), recipe.batch_size):
        chosen = tuple(paths[at : at + recipe.batch_size])
        content = {
            "encoder": recipe.identity,
            "kind": recipe.kind,
            "pixels": recipe.preset.describe(),
            "files": [(str(path), *_state(path)) for path in chosen],
        }
        yield Part(chosen, recipe.cache / f"{sha256_json(content)}.safetensors")


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change; zeros for a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _help(index: int, recipe: Recipe, todo: list[Part], processes: int, what: str) -> None:
    """Process `index` + 1 of a job; the first one started it."""
    rank = index + 1
    torch.set_num_threads(max(1, recipe.threads // processes))
    device = pick_device(recipe.device, rank)
    encoder = load_encoder(recipe.model, recipe.kind, recipe.preset.frames, device)
    _encode(recipe, encoder, todo[rank::processes], device, f"{what} (process {rank + 1})", print)


def _encode(recipe: Recipe, encoder: Encoder, parts: list[Part], device: torch.device, what: str, log: Log) -> None:
    """Encode `parts` and write their files."""
    threads = max(1, recipe.threads // recipe.processes)
    videos = load_videos([path for part in parts for path in part.paths], recipe.preset, threads)
    progress = _Progress(sum(len(part.paths) for part in parts), what, log)
    for part in parts:
        batch = list(islice(videos, len(part.paths)))
        with torch.inference_mode():
            features = encoder.video(*to_batch(batch, recipe.preset, device)).float().cpu()
        write_features(part.file, {"video": features}, {"problems": [video.problem for video in batch]})
        progress.add(len(batch), sum(video.problem is not None for video in batch))


class _Progress:
    def __init__(self, total: int, what: str, log: Log) -> None:
        self.total, self.what, self.log = total, what, log
        self.done = self.lost = 0
        self.began = self.told = time.monotonic()

    def add(self, done: int, lost: int) -> None:
        """A line now and then, and at the end."""
        self.done, self.lost = self.done + done, self.lost + lost
        now = time.monotonic()
        if self.done < self.total and now - self.told < PROGRESS_SECONDS:
            return
        self.told = now
        pace = self.done / max(now - self.began, 1e-9)
        self.log(
            f"{self.what} {self.done}/{self.total}  {pace:.1f} videos/s  {self.lost} without frames  "
            f"{(self.total - self.done) / pace:.0f} s left"
        )
