"""`snakemake --profile slurm` from a list of URLs to the report: what it asks SLURM for, and what comes out."""

import csv
from pathlib import Path

import pytest
from safetensors.torch import load
from tests.slurm.conftest import SHAPES
from tests.slurm.workflow import STEPS, Workflow

from tvts.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]
"""One process runs them all: they share the cluster."""


def shown(workflow: Workflow, name: str) -> list[dict[str, str]]:
    """What SLURM remembers of the jobs whose comment contains `name`."""
    jobs = workflow.cluster.jobs("all")
    return [workflow.cluster.show(job) for job, comment in jobs.items() if name in comment]


def test_the_whole_workflow_ran_as_slurm_jobs(finished: Workflow) -> None:
    results = finished.folder / "results"
    assert (results / "report/figures/training.png").stat().st_size > 5000
    assert read_json(results / "mlflow.json")["runs"] > 0
    comments = finished.cluster.jobs("completed").values()
    for rule in ("demo_corpus", "plan", "download", "transcribe", "dataset_card", "pretrain", "embed", "score"):
        assert any(comment.startswith(f"rule_{rule}") for comment in comments), rule


def test_small_shards_share_a_job(finished: Workflow) -> None:
    jobs = shown(finished, "dataset_shards")
    assert [job["NumCPUs"] for job in jobs] == ["2"]
    assert len(list((finished.folder / "results/datasets/narrated").glob("*.parquet"))) == 2


def test_gpus_are_asked_for_per_job_and_per_node(finished: Workflow) -> None:
    assert {job["TresPerJob"] for job in shown(finished, "rule_transcribe")} == {"gres:gpu:1"}
    assert len(shown(finished, "rule_transcribe")) == 2
    (job,) = shown(finished, "rule_pretrain_wildcards_two-by-two")
    assert (job["TresPerNode"], job["NumNodes"], job["NumTasks"]) == ("gres:gpu:2", "2", "4")
    (alone,) = shown(finished, "rule_pretrain_wildcards_demo")
    assert (alone["NumNodes"], alone["NumTasks"]) == ("1", "1")
    assert "TresPerNode" not in alone


@pytest.mark.parametrize("run", SHAPES)
def test_a_run_is_the_same_in_every_shape_of_launch(finished: Workflow, run: str) -> None:
    nodes, processes = {"two-nodes": ("n[1-2]", 2), "two-gpus": (None, 2), "two-by-two": ("n[1-2]", 4)}[run]
    card = read_json(finished.folder / "results/runs" / run / "card.json")
    assert (card["processes"], card["step"]) == (processes, STEPS)
    (attempt,) = finished.attempts(run)
    assert attempt["nodes"] == nodes or attempt["nodes"] in ("n1", "n2")
    ours, alone = load(finished.weights(run)), load(finished.weights("demo"))
    assert max((ours[name] - alone[name]).abs().max().item() for name in alone) < 1e-3


def test_the_report_tells_what_it_cost(finished: Workflow) -> None:
    assert (
        finished.run("tvts", "tables", "--config", "results/report/config.json", "--output", "results/report/tables")
        == 0
    )
    with open(finished.folder / "results/report/tables/costs.csv", encoding="utf-8") as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert {"download", "transcribe", "dataset", "pretrain", "embed", "score"} == rows.keys()
    assert float(rows["transcribe"]["GPU-hours"]) == float(rows["transcribe"]["core-hours"]) > 0
    runs = [path.parent.parent.name for path in finished.folder.glob("results/runs/*/training/attempts")]
    again = sum(len(finished.attempts(run)) - 1 for run in runs)
    assert {stage: int(row["retries"]) for stage, row in rows.items()} == dict.fromkeys(rows, 0) | {"pretrain": again}


def test_mlflow_knows_the_slurm_job(finished: Workflow) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.folder}/results/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`tvts.kind` = 'training'")
    (attempt,) = finished.attempts("demo")
    assert run.data.tags["tvts.slurm_jobs"] == attempt["job"]
    assert run.data.tags["tvts.nodes"] in ("n1", "n2")
    assert float(run.data.tags["tvts.gpu_hours"]) == 0


def test_logs_lie_where_a_user_looks(finished: Workflow) -> None:
    log = Path(finished.folder / "results/logs/pretrain/demo.log")
    assert f"step {STEPS}/{STEPS}" in log.read_text(encoding="utf-8")
    assert log.resolve().parent == finished.training("demo").resolve() / "logs"
