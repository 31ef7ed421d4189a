"""One SLURM cluster and one finished workflow on it, shared by all tests here."""

import os
from collections.abc import Iterator

import pytest
from tests.slurm.cluster import Cluster, missing_programs
from tests.slurm.workflow import Workflow

SHAPES = ("two-nodes", "two-gpus", "two-by-two")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two virtual nodes."""
    missing = missing_programs()
    if missing:
        reason = f"SLURM: {', '.join(missing)} not installed"
        (pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip)(reason)
    with Cluster(tmp_path_factory.mktemp("cluster")).running() as running:
        yield running


@pytest.fixture(scope="session")
def finished(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The whole workflow, run to its end, and a training in each shape of launch."""
    workflow = Workflow(tmp_path_factory.mktemp("slurm") / "work", cluster)
    cards = [f"results/runs/{run}/card.json" for run in SHAPES]
    status = workflow.run(*workflow.command("all", *cards))
    assert status == 0, workflow.said()[-6000:]
    return workflow
