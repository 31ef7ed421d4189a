"""Training learns, freezes what it should, and continues after a stop or a kill exactly as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tvts.config import Run, UserError
from tvts.files import read_json, write_json
from tvts.train.checkpoint import load_latest, save, writer_lock
from tvts.train.metrics import Metrics, read_metrics
from tvts.train.optim import rate
from tvts.train.stage import pretrain


def write_config(folder: Path, run: Run) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(run.model_dump_json(), encoding="utf-8")
    return path


def train(folder: Path, run: Run, card: Path, minutes: float | None = None) -> dict[str, torch.Tensor]:
    pretrain(
        write_config(folder, run),
        [card],
        folder / "training",
        folder / "model",
        folder / "card.json",
        "pyav",
        1,
        minutes,
    )
    return load_file(folder / "model" / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def steps_without_time() -> Callable[[Path], list[dict[str, Any]]]:
    timing = ("time", "clips_per_second", "data_wait")
    return lambda path: [
        {key: value for key, value in record.items() if key not in timing} for record in read_metrics(path)
    ]


def test_a_run_leaves_model_card_and_metrics(tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path) -> None:
    run = make_run()
    weights = train(tmp_path / "run", run, dataset_card)
    card = read_json(tmp_path / "run/card.json")
    assert card["step"] == 12
    assert {"val_sorting", "val_sorting_all", "val_t2v_R@1"} <= card["metrics"].keys()
    records = read_metrics(tmp_path / "run/training/metrics.jsonl")
    assert [record["step"] for record in records if "loss" in record] == [2, 4, 6, 8, 10, 12]
    assert [record["step"] for record in records if "val_sorting" in record] == [6, 12]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "run/model").iterdir()
    }
    assert any("temporal_attn" in name for name in weights)


def test_the_loss_falls(tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path) -> None:
    train(tmp_path / "run", make_run(train={"epochs": 8}, optim={"lr_clip": 1e-3}), dataset_card)
    losses = [record["loss"] for record in read_metrics(tmp_path / "run/training/metrics.jsonl") if "loss" in record]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize(("frozen", "moving"), [(0, {0, 1}), (1, {1}), ("all", set())])
def test_frozen_text_blocks_stay_bit_identical(
    tmp_path: Path,
    make_run: Callable[..., Run],
    dataset_card: Path,
    clip_folder: Path,
    frozen: int | str,
    moving: set[int],
) -> None:
    before = load_file(clip_folder / "model.safetensors")
    after = train(tmp_path / "run", make_run(text={"frozen_blocks": frozen}), dataset_card)
    changed = {name for name, tensor in before.items() if name in after and not torch.equal(tensor, after[name])}
    assert {int(name.split(".")[3]) for name in changed if name.startswith("text_model.encoder")} == moving
    assert ("text_projection.weight" in changed) == (frozen != "all")
    assert "visual_projection.weight" in changed


def test_stopping_and_continuing_changes_nothing(
    tmp_path: Path,
    make_run: Callable[..., Run],
    dataset_card: Path,
    steps_without_time: Callable[[Path], list[dict[str, Any]]],
) -> None:
    run = make_run()
    straight = train(tmp_path / "straight", run, dataset_card)
    for _ in range(50):
        try:
            continued = train(tmp_path / "stopped", run, dataset_card, minutes=1e-9)
            break
        except UserError as stopped:
            assert "the same command continues" in str(stopped)
    assert equal(straight, continued)
    assert steps_without_time(tmp_path / "stopped/training/metrics.jsonl") == steps_without_time(
        tmp_path / "straight/training/metrics.jsonl"
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_trainer_ends_in_the_same_weights(
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path, how: signal.Signals
) -> None:
    run = make_run(train={"epochs": 10, "checkpoint_minutes": 1e-6})
    straight = train(tmp_path / "straight", run, dataset_card)
    folder = tmp_path / "killed"
    command = [
        sys.executable, "-m", "tvts", "pretrain", str(write_config(folder, run)), "--dataset", str(dataset_card),
        "--folder", str(folder / "training"), "--model", str(folder / "model"), "--card", str(folder / "card.json"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list((folder / "training").glob("step-*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (75 if how == signal.SIGTERM else -9), errors
    assert not (folder / "model").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert equal(straight, load_file(folder / "model" / "model.safetensors"))


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    said: list[str] = []
    for step in (1, 2):
        save(tmp_path, step, {"weight": torch.full((3,), float(step))}, {"settings": {"lr": 1}}, keep=2)
    content = bytearray((tmp_path / "step-00000002.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "step-00000002.pt").write_bytes(content)
    found = load_latest(tmp_path, {"lr": 1}, said.append)
    assert found is not None
    assert found[1]["step"] == 1
    assert "step-00000002.pt is damaged" in said[0]


def test_old_checkpoints_go_and_those_of_other_settings_are_set_aside(tmp_path: Path) -> None:
    said: list[str] = []
    for step in range(5):
        save(tmp_path, step, {}, {"settings": {"optim": {"lr": 1}, "seed": 0}}, keep=2)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["step-00000003.json", "step-00000004.json"]
    assert load_latest(tmp_path, {"optim": {"lr": 2}, "seed": 0}, said.append) is None
    assert "optim.lr: 1 then, 2 now" in said[0]
    assert not list(tmp_path.glob("step-*"))
    assert len(list(tmp_path.glob("before-*/step-*.pt"))) == 2


def test_other_data_means_training_anew(tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path) -> None:
    first = train(tmp_path / "run", make_run(), dataset_card)
    copy = tmp_path / "results"
    shutil.copytree(dataset_card.parents[2], copy)
    card = copy / "datasets/toy/card.json"
    write_json(card, read_json(card) | {"inputs_sha256": "others"})
    shard = card.parent / "00000.parquet"
    rows = pq.read_table(shard).to_pylist()
    pq.write_table(pa.Table.from_pylist(rows[2:]), shard)
    assert not equal(first, train(tmp_path / "run", make_run(), card))


def test_two_trainers_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        writer_lock(tmp_path),
        pytest.raises(UserError, match="another trainer is writing here"),
        writer_lock(tmp_path),
    ):
        pass


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, 0)
    for step in (1, 2, 3):
        metrics.append(step, loss=float(step))
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')
    Metrics(path, 2).append(3, loss=0.5)
    assert [(record["step"], record["loss"]) for record in map(json.loads, path.read_text().splitlines())] == [
        (1, 1.0),
        (2, 2.0),
        (3, 0.5),
    ]


def test_schedules(make_run: Callable[..., Run]) -> None:
    step = make_run(optim={"schedule": "step", "milestones": [6, 8]}).optim
    assert [round(rate(step, epoch * 10, 10, 100), 4) for epoch in (0, 5, 6, 7, 8, 9)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    cosine = make_run(optim={"schedule": "cosine", "warmup_steps": 9}).optim
    assert rate(cosine, 0, 10, 100) == pytest.approx(0.1)
    assert rate(cosine, 9, 10, 100) == 1.0
    assert rate(cosine, 99, 10, 100) < 0.001
