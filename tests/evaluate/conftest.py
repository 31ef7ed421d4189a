"""Models, videos and benchmarks small enough for tests, in the real formats."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import write_video
from tests.train.conftest import dataset_card, make_run  # noqa: F401
from transformers import CLIPTokenizer

from tvts.config import Benchmark
from tvts.model import TVTSProcessor, from_clip

SIZE = 32
"""Image size of the tiny towers."""
FRAMES = 4


@pytest.fixture(scope="session")
def tvts_folder(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TVTS model folder as training leaves it."""
    folder = tmp_path_factory.mktemp("tvts") / "model"
    torch.manual_seed(1)
    from_clip(clip_folder, num_frames=FRAMES, num_transcripts=2, sorter_layers=1, sorter_heads=2).save_pretrained(
        folder
    )
    TVTSProcessor(CLIPTokenizer.from_pretrained(clip_folder), image_size=SIZE).save_pretrained(folder)
    return folder


def make_frames(number: int, count: int = 10, height: int = 40, width: int = 56) -> np.ndarray:
    """A gradient whose colour is the video's and that moves with time: uint8 [count, height, width, 3]."""
    x = np.arange(width)[None, None, :, None] + 5 * np.arange(count)[:, None, None, None]
    colour = np.array([37 * number % 256, 91 * number % 256, 151 * number % 256])
    return np.broadcast_to((x * 2 + colour) % 256, (count, height, width, 3)).astype(np.uint8)


def make_videos(folder: Path, names: Iterable[str], count: int = 10) -> Path:
    """Real videos, each different, under the relative paths `names`."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coded = write_video(path.with_suffix(".mp4"), make_frames(number, count))
        coded.rename(path)
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Benchmark]:
    """A benchmark on files under `tmp_path`; the videos are empty files unless they exist already."""

    def make(
        adapter: str, annotations: str | Path, protocols: list[str], videos: Iterable[str] = (), **options: Any
    ) -> Benchmark:
        folder = tmp_path / "videos"
        folder.mkdir(exist_ok=True)
        for name in videos:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        return Benchmark(
            adapter=adapter, annotations=str(tmp_path / annotations), videos=str(folder),
            protocols=protocols, obtain="generated", options=options,
        )  # fmt: skip

    return make
