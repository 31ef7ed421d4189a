"""All seven benchmarks, in miniature, through the real rules: annotations and videos in, the paper's tables out."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.workflow.miniatures import make_benchmarks
from tests.workflow.snake import job_counts, snakemake

from tvts.config import Experiment
from tvts.files import read_json
from tvts.model import from_clip, to_official

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("miniatures")]
RUNS = ("clip-b16", "official-b16")


def overlay(benchmarks: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The paper's config with a tiny CLIP as B/16: the baseline and a released checkpoint on all seven benchmarks."""
    return {
        "models": {"b16": {"clip": "clip", "frames": 4}},
        "benchmarks": benchmarks,
        "resources": {"embed": {"gpus": 0, "threads": 1}, "score": {"threads": 1}},
        "evaluation": {"device": "cpu"},
        "targets": {"runs": list(RUNS), "ablations": []},
    } | settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> tuple[Path, dict[str, Any]]:
    """A folder in which the workflow has run to its end, with its config.

    K400 has no videos, and one of LSMDC's eight is missing.
    """
    folder = tmp_path_factory.mktemp("benchmarks")
    shutil.copytree(clip_folder, folder / "clip")
    config = overlay(make_benchmarks(folder / "data"))
    config["evaluation"]["max_missing_share"] = 0.2
    torch.manual_seed(2)
    released = to_official(from_clip(clip_folder, num_frames=4, sorter_layers=0), prefix="module.")
    (folder / "data/official").mkdir()
    torch.save({"state_dict": released, "epoch": 9}, folder / "data/official/b16.pth")
    next((folder / "data/lsmdc/videos").rglob("*.avi")).unlink()
    shutil.rmtree(folder / "data/k400/videos")
    run = snakemake(folder, overlay=config, check=False)
    assert run.returncode != 0  # what is missing is not passed over in silence
    assert "data/k400/videos is missing. To get it: Kinetics-400 train.csv" in run.stderr
    return folder, config


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_benchmark_is_scored_under_each_of_its_protocols(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    experiment = Experiment.load(folder / "results/report/config.json")
    for run in RUNS:
        files = (folder / f"results/scores/{run}").iterdir()
        scores = {path.name.removesuffix(".json"): read_json(path) for path in files}
        assert scores.keys() == {f"{name}.{protocol}" for name, protocol in experiment.protocols(run) if name != "k400"}
        assert scores["msrvtt.retrieval"]["coverage"] == {"items": 8, "used": 8, "missing": 0, "substituted": 0}
        assert scores["lsmdc.retrieval"]["coverage"]["missing"] == 1
        assert scores["hmdb51.linear_probe"]["coverage"]["train_used"] == 12
        # colours are linearly separable even for a random tower, so a probe on the right labels must find them
        probes = [scores[f"{name}.linear_probe"]["metrics"]["top1"] for name in ("hmdb51", "ucf101")]
        assert probes == [100, 100]
        assert scores["ssv2_mc.multiple_choice"]["chance"]["top1"] == 25


def paper_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of the paper's three tables that stand for the runs."""
    tables = folder / "results/report/tables"
    rows = [row for number in (2, 3, 4) for row in read(tables / f"paper_table{number}.csv") if row["run"] in RUNS]
    for row in rows:
        if row["ours"] != "not run":
            assert float(row["ours"]) - float(row["paper"]) == pytest.approx(float(row["difference"]), abs=0.051)
    return rows


def test_what_is_missing_is_told_and_stops_nothing_else(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    rows = paper_rows(folder)
    assert len(rows) == 3 * 4 + 2 * 3 * 4 + 2 * (4 + 3)
    missing = [row for row in rows if row["ours"] == "not run"]
    assert {row["benchmark"] for row in missing} == {"k400"} and len(missing) == 4
    assert {row["coverage"] for row in rows if row["benchmark"] == "lsmdc"} == {"7/8"}
    assert (folder / "results/mlflow.json").exists()
    for number in (2, 3, 4):
        text = (folder / f"results/report/tables/paper_table{number}").with_suffix(".md").read_text()
        assert "| paper | ours | difference | coverage |" in text
        assert r"\bottomrule" in (folder / f"results/report/tables/paper_table{number}.tex").read_text()


def test_data_that_arrive_complete_the_tables_and_nothing_is_done_twice(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, config = finished
    make_benchmarks(folder / "again")
    shutil.copytree(folder / "again/k400/videos", folder / "data/k400/videos")
    counts = job_counts(snakemake(folder, "-n", "--quiet", "rules", overlay=config))
    assert {rule: counts.get(rule) for rule in ("embed", "score", "tables", "convert", "missing")} == {
        "embed": 2, "score": 4, "tables": 1, "convert": None, "missing": None,
    }  # fmt: skip
    snakemake(folder, overlay=config)
    rows = paper_rows(folder)
    assert all(row["ours"] != "not run" for row in rows)
    assert {row["coverage"] for row in rows if row["benchmark"] == "k400"} == {"4/4"}
