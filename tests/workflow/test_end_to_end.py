"""The whole workflow, small: from a list of URLs, two of them bad, to the report; then what a change makes it do again."""

import json
from copy import deepcopy
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.workflow.conftest import SMALL
from tests.workflow.snake import job_counts, snakemake

DRY = ("-n", "--quiet", "rules")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end to end")]


def test_a_bad_video_is_a_row_with_its_reason(finished: Path) -> None:
    rows = [
        row
        for path in sorted((finished / "results/corpora/narrated/clips").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    bad = {row["id"]: (row["status"], bool(row["message"])) for row in rows if row["status"] != "ok"}
    assert bad.keys() == {"fake", "gone"}
    assert bad["fake"] == ("corrupt", True)
    assert bad["gone"][1]
    assert sum(row["status"] == "ok" for row in rows) == 14


def test_the_report_is_whole(finished: Path) -> None:
    report = finished / "results/report"
    card = json.loads((finished / "results/datasets/narrated/card.json").read_text())
    assert [stage["count"] for stage in card["funnel"]][:2] == [16, 14]
    drawn = ("training", "funnel_narrated", "window_narrated", "ablation_freeze_depth", "distortion_freeze_depth")
    for figure in drawn:
        assert (report / "figures" / f"{figure}.png").stat().st_size > 5000
        assert (report / "figures" / f"{figure}.pdf").stat().st_size > 1000
    table = (report / "tables/results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["demo", "other", "clip-tiny", "demo-freeze_depth-all-seed0"]
    assert "not run" not in table[1]
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "every score that the config asks for is there" in page
    assert page.count("data:image/png;base64,") == 2
    drift = (report / "tables/distortion_freeze_depth.csv").read_text().splitlines()
    assert drift[2].startswith("all,1/1,0.000,0.000,0.000,0.000")  # a frozen text encoder does not move
    assert not drift[1].startswith("2,1/1,0.000,0.000,0.000,0.000")
    errors = dict(line.split(",")[::3] for line in (report / "tables/word_errors.csv").read_text().splitlines()[1:])
    assert float(errors["all"]) < 20


def test_mlflow_holds_every_training_and_every_score(finished: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished}/results/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    kinds = [run.data.tags["tvts.kind"] for run in runs]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "training": 3,
        "clip": 1,
        "evaluation": 4 * 3 + 3 + 3,
        "ablation": 1,
        "report": 1,
    }
    demo = next(run for run in runs if run.info.run_name == "demo")
    assert demo.info.status == "FINISHED"
    assert demo.data.params["text.frozen_blocks"] == "2"
    assert [metric.step for metric in client.get_metric_history(demo.info.run_id, "loss")] == [2, 4]
    assert {"tvts.config_sha256", "tvts.data_sha256", "tvts.rule"} <= demo.data.tags.keys()
    parent = next(run for run in runs if run.data.tags["tvts.kind"] == "ablation")
    assert client.list_artifacts(parent.info.run_id, "figures")[0].path == "figures/ablation_freeze_depth.png"


def test_running_again_does_nothing(finished: Path) -> None:
    assert job_counts(snakemake(finished, *DRY, overlay=SMALL)) == {}


def test_one_changed_override_reruns_only_its_run(finished: Path) -> None:
    changed = deepcopy(SMALL)
    changed["runs"]["other"]["set"]["seed"] = 8
    run = snakemake(finished, *DRY, overlay=changed)
    counts = job_counts(run)
    assert {rule: counts[rule] for rule in ("freeze", "pretrain", "embed", "score", "score_sorting")} == {
        "freeze": 1,
        "pretrain": 1,
        "embed": 1,
        "score": 3,
        "score_sorting": 1,
    }
    assert not {"plan", "download", "transcribe", "dataset_shard", "demo_clip"} & counts.keys()


def test_a_deleted_tar_reruns_only_what_depends_on_it(finished: Path) -> None:
    tar = finished / "results/corpora/narrated/clips/00001.tar"
    kept = tar.rename(tar.with_suffix(".kept"))
    counts = job_counts(snakemake(finished, *DRY, overlay=SMALL))
    kept.rename(tar)
    assert {rule: counts[rule] for rule in ("download", "transcribe", "dataset_shard", "dataset_card", "pretrain")} == {
        "download": 1,
        "transcribe": 1,
        "dataset_shard": 1,
        "dataset_card": 1,
        "pretrain": 3,
    }
    assert not {"plan", "demo_corpus", "demo_clip"} & counts.keys()


def test_the_report_page_is_one_file_that_needs_no_network(finished: Path) -> None:
    page = finished / "report.html"
    snakemake(finished, "--report", str(page), overlay=SMALL)
    text = page.read_text(encoding="utf-8")
    assert "Word error rate of the speech recogniser" in text
    assert all(question in text for question in ("What was run", "What came out", "What is missing"))
    assert 'src="http' not in text
