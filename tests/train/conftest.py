"""A small data set on disk in the project's own format, and a run that trains on it in seconds."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import write_video
from tests.train.processes import STARTED, write_config

from tvts.config import Run
from tvts.config import validate as check
from tvts.config.schema import Dataset
from tvts.corpus.shards import TarWriter
from tvts.files import read_json, write_json
from tvts.model import TVTSModel, TVTSProcessor
from tvts.train.data import Collate, FixedWindows
from tvts.train.distributed import Process
from tvts.train.inputs import ToDevice
from tvts.train.metrics import read_metrics
from tvts.train.stage import pretrain, source
from tvts.train.validation import validate

FPS, SECONDS, CLIPS = 8, 8, 12
SETTINGS = {
    "corpus": "toy",
    "segments": 2,
    "segment_seconds": [2.0, 2.0],
    "gap_seconds": 0.5,
    "validation_share": 0.5,
}


@pytest.fixture(scope="session")
def dataset_card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Card of a data set of 12 clips in 2 shards, 4 of them held out; each clip brightens over time and says so."""
    results = tmp_path_factory.mktemp("results")
    clips, folder = results / "corpora/toy/clips", results / "datasets/toy"
    clips.mkdir(parents=True)
    folder.mkdir(parents=True)
    for shard in range(2):
        rows = []
        with open(clips / f"{shard:05d}.tar", "wb") as file:
            tar = TarWriter(file)
            for number in range(shard * CLIPS // 2, (shard + 1) * CLIPS // 2):
                rows.append(_row(tar, shard, number, results))
            tar.close()
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shard:05d}.parquet")
    write_json(
        folder / "card.json",
        {
            "settings": Dataset.model_validate(SETTINGS).model_dump(),
            "inputs_sha256": "these",
            "clips": {"train": 8, "validation": 4},
            "hours": {"usable": CLIPS * SECONDS / 3600},
            "funnel": [],
            "languages": {"en": CLIPS},
        },
    )
    return folder / "card.json"


def _row(tar: TarWriter, shard: int, number: int, scratch: Path) -> dict[str, Any]:
    key = f"{number:04d}_00000"
    brightness = np.linspace(20, 230, FPS * SECONDS).astype(np.uint8)
    frames = np.broadcast_to(brightness[:, None, None, None], (FPS * SECONDS, 48, 64, 3)).copy()
    frames[:, :, :, number % 3] //= 1 + number
    offset, size = tar.add(f"{key}.mp4", write_video(scratch / f"{key}.mp4", frames, FPS))
    words = [
        {"word": word, "start": t, "end": t + 0.4, "probability": 1.0}
        for t, word in zip(
            np.arange(0.1, SECONDS - 0.5, 0.5).tolist(),
            ["now", "it", "is", "dark", "then", "it", "gets", "light", "and", "so", "on"] * 2,
            strict=False,
        )
    ]
    windows = [{"start": start, "length": 2.0} for start in (0.0, 0.5, 1.0, 2.0, 3.0)]
    held_out = number % 3 == 0
    return {
        "key": key,
        "id": f"video-{number}",
        "shard": shard,
        "split": "validation" if held_out else "train",
        "duration": float(SECONDS),
        "fps": float(FPS),
        "frames": FPS * SECONDS,
        "offset": offset,
        "size": size,
        "keyframes": list(range(0, FPS * SECONDS, 4)),
        "words": words,
        "caption": None,
        "windows": windows,
        "fixed": [{"start": 1.0, "length": 2.0, "order": [1, 0]}] if held_out else [],
    }


@pytest.fixture
def make_run(clip_folder: Path) -> Callable[..., Run]:
    """A run on the small data set, with overrides given as sections."""

    def make(**overrides: dict[str, Any]) -> Run:
        settings: dict[str, Any] = {
            "model": {"preset": "toy", "clip": str(clip_folder), "frames": 4, "mask_ratio": 0.5},
            "text": {"frozen_blocks": 1},
            "data": {"datasets": ["toy"], "batch_size": 4, "workers": 0, "crop": 0.9},
            "optim": {"lr_new": 1e-3, "lr_clip": 1e-4, "schedule": "cosine"},
            "train": {
                "epochs": 2,
                "steps_per_epoch": 6,
                "precision": "fp32",
                "compile": False,
                "log_every": 2,
                "validate_every": 6,
            },
        }
        return check(Run, {key: settings.get(key, {}) | overrides.get(key, {}) for key in settings | overrides}, "run")

    return make


@pytest.fixture(autouse=True)
def _none_left_behind() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


def train(folder: Path, run: Run, card: Path, minutes: float | None = None) -> dict[str, torch.Tensor]:
    """Train in this process; the model's weights."""
    paths = write_config(folder, run), [card], folder / "training", folder / "model", folder / "card.json"
    pretrain(*paths, "pyav", 1, minutes)
    return load_file(folder / "model" / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """The same tensors, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def records(folder: Path) -> list[dict[str, Any]]:
    """What a training measured, without its times."""
    timing = ("time", "clips_per_second", "data_wait")
    found = read_metrics(folder / "training/metrics.jsonl")
    return [{key: value for key, value in record.items() if key not in timing} for record in found]


def saved_settings(folder: Path) -> dict[str, Any]:
    """The settings that the newest checkpoint was made with."""
    return read_json(max((folder / "training").glob("step-*.json")))["settings"]


def validated(model: TVTSModel, run: Run, card: Path) -> dict[str, float]:
    """Metrics of a model on the held-out windows."""
    assert run.data is not None
    alone = Process(0, 1, 0, torch.device("cpu"))
    fixed = FixedWindows(source(card), run.model.frames, model.config.vision_config.image_size, "pyav")
    collate = Collate(TVTSProcessor.from_pretrained(model.name_or_path))
    return validate(model, fixed, collate, ToDevice(alone.device, run.data.pixels), alone, contextlib.nullcontext)
