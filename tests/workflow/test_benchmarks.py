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
RUN = "official-b16"


def overlay(benchmarks: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The paper's config with a tiny CLIP as B/16: its released checkpoint on all seven benchmarks."""
    return {
        "models": {"b16": {"clip": "clip", "frames": 4}},
        "benchmarks": benchmarks,
        "resources": {"embed": {"gpus": 0, "threads": 1}, "score": {"threads": 1}},
        "evaluation": {"device": "cpu"},
        "targets": {"runs": [RUN], "ablations": []},
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
    scores = {path.name.removesuffix(".json"): read_json(path) for path in (folder / f"results/scores/{RUN}").iterdir()}
    assert scores.keys() == {f"{name}.{protocol}" for name, protocol in experiment.protocols(RUN) if name != "k400"}
    assert scores["msrvtt.retrieval"]["coverage"] == {"items": 8, "used": 8, "missing": 0, "substituted": 0}
    assert scores["lsmdc.retrieval"]["coverage"]["missing"] == 1
    assert scores["hmdb51.linear_probe"]["coverage"]["train_used"] == 12
    # colours are linearly separable even for a random tower, so a probe on the right labels must find them
    assert [scores[f"{name}.linear_probe"]["metrics"]["top1"] for name in ("hmdb51", "ucf101")] == [100, 100]
    assert scores["ssv2_mc.multiple_choice"]["chance"]["top1"] == 25


def paper_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of the paper's three tables that stand for the run."""
    tables = folder / "results/report/tables"
    rows = [row for number in (2, 3, 4) for row in read(tables / f"paper_table{number}.csv") if row["run"] == RUN]
    for row in rows:
        if row["ours"] != "not run":
            assert float(row["ours"]) - float(row["paper"]) == pytest.approx(float(row["difference"]), abs=0.051)
    return rows


def test_what_is_missing_is_told_and_stops_nothing_else(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    rows = paper_rows(folder)
    assert len(rows) == 2 * 3 * 4 + 4 + 3
    missing = [row for row in rows if row["ours"] == "not run"]
    assert {row["benchmark"] for row in missing} == {"k400"} and len(missing) == 2
    assert {row["coverage"] for row in rows if row["benchmark"] == "lsmdc"} == {"7/8"}
    assert "benchmark k400: no data/k400/videos" in (folder / "results/report/index.html").read_text()
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
        "embed": 1, "score": 2, "tables": 1, "convert": None, "missing": None,
    }  # fmt: skip
    snakemake(folder, overlay=config)
    rows = paper_rows(folder)
    assert all(row["ours"] != "not run" for row in rows)
    assert {row["coverage"] for row in rows if row["benchmark"] == "k400"} == {"4/4"}
    assert "every score that the config asks for is there" in (folder / "results/report/index.html").read_text()


def test_a_wrong_file_is_told_and_the_rest_is_reported(tmp_path: Path, clip_folder: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "clip")
    targets = {"runs": ["clip-b16"], "ablations": [], "benchmarks": ["msrvtt", "didemo"]}
    config = overlay(make_benchmarks(tmp_path / "data"), targets=targets)
    (tmp_path / "data/didemo/DiDeMo_test.tsv").write_text("caption\tpath\na dog\t0@N00.mp4\n")
    run = snakemake(tmp_path, overlay=config, check=False)
    assert run.returncode != 0
    log = (tmp_path / "results/logs/embed/clip-b16/didemo.log").read_text()
    assert "didemo data/didemo/DiDeMo_test.tsv: expected 8 items, found 1" in log
    rows = {
        row["benchmark"]: row
        for row in read(tmp_path / "results/report/tables/paper_table2.csv")
        if row["run"] == "clip-b16"
    }
    assert (rows["msrvtt"]["coverage"], rows["didemo"]["coverage"]) == ("8/8", "not run")
    assert "score of clip-b16 on didemo (retrieval)" in (tmp_path / "results/report/index.html").read_text()
