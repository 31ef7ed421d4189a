"""The real rule: a trainer that is killed again and again is tried again, and ends in the weights of one that was left alone."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.train.conftest import equal, records, train
from tests.workflow.snake import snakemake

from tvts.config import Run

pytestmark = pytest.mark.slow
KILLED_AT = (2, 15, 30)


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run(train={"epochs": 8, "steps_per_epoch": 5, "log_every": 3, "checkpoint_minutes": 1e-6})


def kill_at(training: Path, steps: tuple[int, ...], killed: list[int]) -> None:
    """Kill whichever trainer holds the folder once it has saved each of `steps`."""
    for step in steps:
        deadline = time.monotonic() + 600
        while not [p for p in training.glob("step-*.json") if int(p.stem[5:]) >= step]:
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)
        while not (holder := re.findall(r"process (\d+)", (training / "lock").read_text())):
            time.sleep(0.005)
        os.kill(int(holder[0]), signal.SIGKILL)
        killed.append(step)


def test_a_rule_with_retries_ends_as_if_nothing_had_happened(tmp_path: Path, run: Run, dataset_card: Path) -> None:
    train(tmp_path / "straight", run, dataset_card)
    shutil.copytree(dataset_card.parents[2], tmp_path / "results")
    settings = run.model_dump(exclude_unset=True)
    overlay = {
        "models": {"toy": {"clip": run.model.clip}},
        "corpora": {
            "toy": {"source": "local", "list": "urls.csv", "shards": 2, "transcribe": {"engine": "pocketsphinx"}}
        },
        "datasets": {"toy": {"corpus": "toy"}},
        "runs": {"toy": {"set": settings}},
    }
    training, killed = tmp_path / "results/runs/toy/training", []
    killer = threading.Thread(target=kill_at, args=(training, KILLED_AT, killed))
    killer.start()
    target = "results/runs/toy/card.json"
    told = snakemake(tmp_path, target, "--retries", "3", "--allowed-rules", "freeze", "pretrain", overlay=overlay)
    killer.join()
    assert killed == list(KILLED_AT)
    assert told.stderr.count("Trying to restart job") == 3
    assert equal(
        load_file(tmp_path / "straight/model/model.safetensors"), load_file(training.parent / "model/model.safetensors")
    )
    assert records(training.parent) == records(tmp_path / "straight")
