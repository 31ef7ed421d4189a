"""What a workflow has cost, summed from what its jobs left."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.report.conftest import CONFIG

from tvts.config import Experiment, deep_merge
from tvts.files import write_json
from tvts.layout import Layout
from tvts.report.costs import Cost, costs, energy_kwh
from tvts.report.tables import costs_table

SITE: dict[str, Any] = {
    "resources": {"transcribe": {"threads": 4, "gpus": 2}, "score": {"gpus": 1}},
    "runs": {"base": {"set": {"launch": {"nodes": 2, "gpus": 4, "threads": 3}}}},
}


def benchmark(results: Path, name: str, **record: Any) -> None:
    """A record as Snakemake's `--benchmark-extended` writes it."""
    path = results / "benchmarks" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Cost]:
    experiment = Experiment.resolve(deep_merge(CONFIG, SITE))
    benchmark(tmp_path, "transcribe/toy/00000", s=3600.0, cpu_time=7200.0, resources={"attempt": 3})
    benchmark(tmp_path, "transcribe/toy/00001", s=1800.0, cpu_time="NA", resources={"attempt": 1})
    benchmark(tmp_path, "embed/base/words", s=360.0, cpu_time=360.0)
    benchmark(tmp_path, "score/base/words.retrieval", s=3600.0, cpu_time=360.0)
    benchmark(tmp_path, "score/base/actions.linear_probe", s=1800.0, cpu_time=360.0)
    benchmark(tmp_path, "pretrain/base", s=60.0, cpu_time=30.0, resources={"attempt": 1})
    benchmark(tmp_path, "pretrain/forgotten", s=6000.0, cpu_time=30.0)
    for began, job in ((1, "17"), (2, "17")):
        record = {"began": began, "seconds": 1800.0, "processes": 8, "gpus": 8, "job": job, "nodes": "n1", "host": "n1"}
        write_json(tmp_path / f"runs/base/training/attempts/{began}.json", record)
    shard = tmp_path / "corpora/toy/transcripts/00000.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"x" * 1000)
    return costs(experiment, Layout(tmp_path))


def test_a_stage_is_the_sum_of_its_jobs(found: dict[str, Cost]) -> None:
    assert found["transcribe"] == Cost(
        jobs=2, retries=2, core_hours=6.0, busy_core_hours=2.0, gpu_hours=3.0, bytes=1000, longest_hours=1.0
    )


def test_of_scores_linear_probes_alone_have_a_gpu(found: dict[str, Cost]) -> None:
    assert (found["score"].core_hours, found["score"].gpu_hours) == (1.5, 0.5)


def test_a_job_whose_record_names_no_attempt_was_tried_once(found: dict[str, Cost]) -> None:
    assert found["embed"].retries == 0


def test_a_training_pays_for_every_attempt(found: dict[str, Cost]) -> None:
    training = found["pretrain"]
    assert (training.jobs, training.retries) == (1, 1)
    assert (training.gpu_hours, training.core_hours) == (8.0, 24.0)


def test_the_table_has_what_ran(found: dict[str, Cost]) -> None:
    table = costs_table(found)
    assert [row[0] for row in table.rows] == ["transcribe", "pretrain", "embed", "score"]
    assert table.rows[0][1:4] == [2, 2, "6.000"]


def test_energy_is_unknown_without_accounting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert energy_kwh("17") is None
    sacct = tmp_path / "sacct"
    sacct.write_text("#!/bin/sh\necho 7200000\necho\n", encoding="utf-8")
    sacct.chmod(0o755)
    assert energy_kwh("17 18") == 2.0
