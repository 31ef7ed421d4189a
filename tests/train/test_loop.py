"""Training learns, freezes what it should, keeps its best model, and ends with the reason when it cannot go on."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.train.conftest import equal, records, saved_settings, train, validated
from torch import nn

from tvts.config import Run, UserError
from tvts.files import read_json
from tvts.model import TVTSConfig, TVTSModel
from tvts.train import loop
from tvts.train.checkpoint import find_latest, read_state
from tvts.train.data import GlobalBatches, TrainingSet
from tvts.train.metrics import Metrics, read_metrics
from tvts.train.optim import rate
from tvts.train.stage import source as source_of


def test_a_run_leaves_model_card_and_metrics(tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path) -> None:
    run = make_run()
    weights = train(tmp_path / "run", run, dataset_card)
    card = read_json(tmp_path / "run/card.json")
    assert card["step"] == 12
    assert "12 steps on 0.0 hours" in (tmp_path / "run/model/README.md").read_text(encoding="utf-8")
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
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path
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
    assert records(tmp_path / "stopped") == records(tmp_path / "straight")


def test_the_best_model_is_kept_beside_the_last(
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path
) -> None:
    run = make_run(train={"epochs": 4, "validate_every": 2}, optim={"lr_new": 1e-2, "lr_clip": 1e-3})
    train(tmp_path / "run", run, dataset_card)
    measured = [(r["val_sorting"], r["step"]) for r in records(tmp_path / "run") if "val_sorting" in r]
    value, step = max(measured, key=lambda pair: (pair[0], -pair[1]))
    best = read_json(tmp_path / "run/card.json")["best"]
    assert (best["step"], best["metric"], best["value"]) == (step, "val_sorting", value)
    assert [path.name for path in (tmp_path / "run/training").glob("best-*")] == [f"best-{step:08d}"]
    model = TVTSModel.from_pretrained(best["folder"])
    shown = validated(model, run, dataset_card)
    assert shown["sorting"] == value


def test_divergence_ends_training_and_names_the_step_and_its_clips(
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path
) -> None:
    run = make_run(optim={"lr_new": 1.0, "lr_clip": 1.0}, train={"epochs": 20, "checkpoint_minutes": 1e-6})
    with pytest.raises(UserError, match=r"step \d+: the loss .*diverged.json; lower optim.lr_new"):
        train(tmp_path / "run", run, dataset_card)
    found = read_json(tmp_path / "run/training/diverged.json")
    source = source_of(dataset_card)
    rows = TrainingSet(source, run, TVTSConfig(vision_config={"image_size": 32, "patch_size": 16}), "pyav")
    batch = next(iter(GlobalBatches(len(rows), 4, range(found["step"] - 1, found["step"]), run.seed, 0, 1)))
    assert found["processes"][0]["clips"] == [rows.rows[row]["key"] for _, row in batch]
    last = find_latest(tmp_path / "run/training", saved_settings(tmp_path / "run"), print)
    assert last is None or all(torch.isfinite(weight).all() for weight in read_state(last[0])["model"].values())


def test_a_gradient_that_is_no_number_never_reaches_a_checkpoint(
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loop.backward, []

    def broken(model: nn.Module, *arguments: Any) -> Any:
        losses = real(model, *arguments)
        calls.append(1)
        if len(calls) == 5:
            next(p for p in model.parameters() if p.grad is not None).grad.view(-1)[0] = math.nan
        return losses

    monkeypatch.setattr(loop, "backward", broken)
    with pytest.raises(UserError, match="step 5: the loss or its gradient is no longer a number"):
        train(tmp_path / "run", make_run(train={"checkpoint_minutes": 1e-6}), dataset_card)
    steps = sorted(int(path.stem[5:]) for path in (tmp_path / "run/training").glob("step-*.json"))
    assert steps[-1] == 4


def test_too_many_unreadable_clips_end_training(
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path
) -> None:
    copy = tmp_path / "results"
    shutil.copytree(dataset_card.parents[2], copy)
    tar = copy / "corpora/toy/clips/00000.tar"
    for row in pq.read_table(copy / "datasets/toy/00000.parquet").to_pylist():
        with open(tar, "r+b") as file:
            file.seek(row["offset"])
            file.write(b"x" * row["size"])
    card = copy / "datasets/toy/card.json"
    with pytest.raises(UserError, match=r"clips could not be read, more than data.max_corrupt_share = 0.01"):
        train(tmp_path / "run", make_run(), card)
    train(tmp_path / "lenient", make_run(data={"max_corrupt_share": 1.0}), card)
    shares = [record["replaced"] for record in records(tmp_path / "lenient") if "replaced" in record]
    assert 0 < sum(shares) / len(shares) < 1


def test_a_batch_that_cannot_be_split_is_refused(
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path
) -> None:
    with pytest.raises(UserError, match=r"launch\.accumulate = 3; take a multiple of 3"):
        train(tmp_path / "run", make_run(launch={"accumulate": 3}), dataset_card)


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


def test_an_epoch_shows_the_first_data_set_once_also_when_others_take_turns(make_run: Callable[..., Run]) -> None:
    run = make_run(train={"epochs": 10, "steps_per_epoch": None, "validate_every": None})
    alone, alternating = (loop._plan(run, rows=8, turns=turns, world=1) for turns in (1, 2))
    assert (alone.steps_per_epoch, alone.total, alone.validate_every) == (2, 20, 2)
    assert (alternating.steps_per_epoch, alternating.total, alternating.validate_every) == (4, 40, 4)
