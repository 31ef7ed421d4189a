"""The demo in miniature, run once for all tests that look at what a workflow leaves behind."""

from pathlib import Path
from typing import Any

import pytest
from tests.workflow.snake import snakemake

SMALL: dict[str, Any] = {
    "demo": True,
    "extra": {"videos": 14, "clip_steps": 20},
    "corpora": {"narrated": {"shards": 2}},
    "datasets": {"narrated": {"validation_share": 0.3, "validation_windows": 1}},
    "runs": {
        "demo": {
            "set": {
                "data": {"batch_size": 4},
                "train": {"epochs": 1, "steps_per_epoch": 4, "log_every": 2},
            }
        },
        "other": {"extends": "demo", "set": {"seed": 7}},
    },
    "ablations": {"freeze_depth": {"values": [2, "all"], "seeds": [0]}},
    "targets": {"runs": ["demo", "other", "clip-tiny"]},
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the workflow has run to its end."""
    folder = tmp_path_factory.mktemp("workflow")
    snakemake(folder, "results/demo/corpus/urls.csv", overlay=SMALL)
    fake = folder / "fake.mp4"
    fake.write_text("<html>not a video</html>", encoding="utf-8")
    with open(folder / "results/demo/corpus/urls.csv", "a", encoding="utf-8") as file:
        file.write(f"fake,{fake.as_uri()}\ngone,{(folder / 'gone.mp4').as_uri()}\n")
    snakemake(folder, overlay=SMALL)
    return folder
