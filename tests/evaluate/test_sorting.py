"""Sorting on stored windows: metrics by hand, and the whole path on a small data set in the project's format."""

from pathlib import Path

import pytest
import torch
from tests.evaluate.conftest import FRAMES

from tvts.config import Run, UserError, validate
from tvts.evaluate.sorting import score_sorting, sorting_metrics
from tvts.files import read_json, write_json
from tvts.model import TVTSModel


def test_metrics_by_hand() -> None:
    positions = torch.tensor([[2, 0, 1], [0, 1, 2]])
    logits = torch.nn.functional.one_hot(torch.tensor([[2, 0, 1], [0, 0, 2]]), 3).float()
    result = sorting_metrics(logits, positions)
    assert result.metrics["sorting"] == pytest.approx(500 / 6)
    assert result.metrics["sorting_all"] == 50
    assert result.chance == pytest.approx({"sorting": 100 / 3, "sorting_all": 100 / 27})


@pytest.fixture
def config(tmp_path: Path, clip_folder: Path) -> Path:
    run = validate(
        Run,
        {"model": {"preset": "toy", "clip": str(clip_folder), "frames": FRAMES}, "data": {"datasets": ["toy"]}},
        "run",
    )
    write_json(tmp_path / "config.json", run.model_dump())
    return tmp_path / "config.json"


def test_stored_windows_are_sorted(config: Path, tvts_folder: Path, dataset_card: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores/some-run/toy.sorting.json"
    score_sorting(config, tvts_folder, dataset_card, output, "pyav", log=lambda line: None)
    body = read_json(output)
    assert (body["run"], body["benchmark"], body["protocol"]) == ("some-run", "toy", "sorting")
    assert body["metrics"]["windows"] == body["coverage"]["items"] == 4
    assert body["chance"] == {"sorting": 50, "sorting_all": 25}
    example = body["examples"][0]
    assert example["order"] == [1, 0]
    assert len(example["transcripts"]) == 2 and set(example["predicted"]) <= {0, 1}
    right = [a == b for one in body["examples"] for a, b in zip(one["order"], one["predicted"], strict=True)]
    assert body["metrics"]["sorting"] == pytest.approx(100 * sum(right) / len(right))


def test_a_model_without_sorter_is_refused(config: Path, tvts_folder: Path, dataset_card: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tvts_folder, folder)
    TVTSModel.from_pretrained(tvts_folder, sorter_layers=0).save_pretrained(folder)
    with pytest.raises(UserError, match="has no sorter"):
        score_sorting(config, folder, dataset_card, tmp_path / "s.json", "pyav")
