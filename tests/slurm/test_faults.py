"""What may happen to a job, its node, the main process and the config while a training runs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.slurm.workflow import Workflow
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]
"""One process runs them all: they share the cluster."""

HIT = ("told-to-stop", "out-of-time", "node-lost")


def logs(workflow: Workflow, run: str) -> list[str]:
    """What each attempt said."""
    return [path.read_text(encoding="utf-8") for path in sorted(workflow.training(run).glob("logs/*.log"))]


@pytest.fixture(scope="module")
def hit(finished: Workflow) -> Iterator[Workflow]:
    """Three trainings at once: one told to stop, one out of time, one whose node dies."""
    cluster = finished.cluster
    finished.slow(10)
    main = finished.start(*finished.command(*(f"results/runs/{run}/card.json" for run in HIT)))
    for run in HIT:
        finished.wait_for_step(run)
    cluster.run("scancel", "--signal=TERM", finished.job_of("told-to-stop"))
    node = cluster.show(finished.job_of("node-lost"))["NodeList"]
    cluster.lose_node(node)
    for run in HIT:
        wait_for(f"the second attempt at {run}, or its place in the queue", lambda run=run: ended_once(finished, run))
    finished.slow(None)
    status = finished.finish(main)
    cluster.start_node(node)
    assert status == 0, finished.said()[-6000:]
    yield finished


def ended_once(workflow: Workflow, run: str) -> bool:
    """Whether a run's first job is over, or back in the queue."""
    jobs = [job for job, comment in workflow.cluster.jobs().items() if comment.endswith(run)]
    states = [workflow.cluster.show(job) for job in jobs]
    return len(workflow.attempts(run)) > 1 or all(state["JobState"] != "RUNNING" for state in states)


def test_a_training_told_to_stop_goes_on_by_itself(hit: Workflow) -> None:
    first, second = hit.attempts("told-to-stop")
    assert first["before"] is None
    assert second["before"] is not None
    assert hit.weights("told-to-stop") == hit.weights("demo")
    if (
        hit.cluster.tracks == "cgroup"
    ):  # elsewhere the signal ends srun too, and the job is tried again from its last checkpoint
        assert first["job"] == second["job"], "back in the queue as the same job"
        assert "is back in the queue" in logs(hit, "told-to-stop")[0]
        assert second["before"] == first["after"]


def test_a_training_out_of_time_goes_on(hit: Workflow) -> None:
    first, *_, last = hit.attempts("out-of-time")
    assert hit.cluster.show(first["job"])["TimeLimit"] == "00:02:00"
    assert first["seconds"] < 150
    assert last["before"] is not None
    assert hit.weights("out-of-time") == hit.weights("demo")
    if hit.cluster.tracks == "cgroup":
        assert first["seconds"] > 10, "SLURM may warn up to a minute early"
        assert last["before"] >= first["after"] > "step-00000001"


def test_a_training_whose_node_dies_finishes_on_the_other(hit: Workflow) -> None:
    first, second = hit.attempts("node-lost")
    assert {first["nodes"], second["nodes"]} == {"n1", "n2"}
    assert second["before"] is not None
    assert "continuing at step" in logs(hit, "node-lost")[1]
    assert hit.weights("node-lost") == hit.weights("demo")


def test_a_dead_main_process_is_recovered(finished: Workflow) -> None:
    finished.slow(6)
    before = stamps(finished)
    command = finished.command("all", "results/runs/orphaned/card.json")
    main = finished.start(*command)
    finished.wait_for_step("orphaned")
    assert finished.run("tvts", "recover", *command) == 2
    assert "a workflow is running here" in finished.said(), "a main process that lives is left alone"
    os.killpg(main.pid, signal.SIGKILL)
    main.wait()
    orphan = finished.job_of("orphaned")
    assert finished.cluster.show(orphan)["JobState"] == "RUNNING", "the orphan trains on"
    recovering = finished.start("tvts", "recover", *command)
    wait_for("the second attempt", lambda: len(finished.attempts("orphaned")) > 1)
    finished.slow(None)
    assert finished.finish(recovering) == 0, finished.said()[-6000:]
    assert f"cancelling 1 jobs of the workflow that died: {orphan}" in finished.said()
    first, second = finished.attempts("orphaned")
    assert first["job"] != second["job"]
    assert first["began"] + first["seconds"] <= second["began"], "never two trainers at once"
    assert finished.weights("orphaned") == finished.weights("demo")
    assert stamps(finished) == before, "nothing finished was made again"


def stamps(workflow: Workflow) -> dict[Path, int]:
    """When the finished products of the big stages were written."""
    patterns = ("corpora/*/*/*", "datasets/*/*", "runs/demo/model/*", "embeddings/*/*", "scores/*/*")
    return {
        path: path.stat().st_mtime_ns for pattern in patterns for path in (workflow.folder / "results").glob(pattern)
    }


def test_a_config_edited_while_jobs_wait_is_refused(finished: Workflow) -> None:
    score = "results/scores/demo/motions.retrieval.json"
    kept = (finished.folder / score).read_bytes()
    finished.remove("scores/demo/motions.retrieval.json")
    finished.cluster.run("scontrol", "update", "partitionname=main", "state=down")
    main = finished.start(*finished.command(score, "--retries", "0"))
    finished.job_of("motions_retrieval")
    finished.command(evaluation={"ties": "optimistic"})
    finished.cluster.run("scontrol", "update", "partitionname=main", "state=up")
    assert finished.finish(main) == 1
    assert "score: the config was edited while jobs ran" in finished.said()
    assert not (finished.folder / score).exists()
    (finished.folder / score).write_bytes(kept)


@pytest.mark.parametrize(
    ("arguments", "changes", "advice"),
    [
        (
            ["--default-resources", "slurm_partition=nowhere"],
            {},
            "embed: this cluster has no partition nowhere: set slurm_partition in workflow/profiles/slurm/config.yaml",
        ),
        (
            [],
            {"resources": {"embed": {"gpus": 5}}},
            "embed: no node of the partition has the GPUs, cores or memory asked for",
        ),
    ],
    ids=["partition", "gpus"],
)
def test_what_slurm_refuses_is_told_in_one_line(
    finished: Workflow, arguments: list[str], changes: dict[str, dict[str, dict[str, int]]], advice: str
) -> None:
    wanted = "results/embeddings/clip-tiny/motions.safetensors"
    assert finished.run(*finished.command(wanted, "--force", "--retries", "0", *arguments, **changes)) == 1
    assert sum(line.startswith(advice) for line in finished.said().splitlines()) == 1, finished.said()[-3000:]
