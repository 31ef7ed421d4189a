"""Metrics reach a real MLflow server while trainings run; when it is away nothing stops, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import answers, free_ports, wait_for

from tvts.config import Experiment, deep_merge, frozen_run
from tvts.files import write_json
from tvts.train.metrics import Metrics

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow server")]
JOBS, RECORDS = 8, 50


class Server:
    """A real `mlflow server` over an SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports(1)[0]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            "server",
            "--backend-store-uri",
            f"sqlite:///{self.folder}/server.db",
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command],
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for("the MLflow server", lambda: answers(self.uri))

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def experiment(server: Server) -> Experiment:
    """Eight runs, tracked over HTTP."""
    return tracked_at(server.uri)


def tracked_at(uri: str) -> Experiment:
    """Eight runs that differ by their seed."""
    return Experiment.resolve(
        {
            "corpora": {"toy": {"source": "local", "list": "list.csv"}},
            "datasets": {"toy": {"corpus": "toy", "text": "caption"}},
            "models": {"tiny": {"clip": "clip"}},
            "runs": {
                f"run-{number}": {"set": {"model": {"preset": "tiny"}, "data": {"datasets": ["toy"]}, "seed": number}}
                for number in range(JOBS)
            },
            "tracking": {"uri": uri, "experiment": "live"},
            "targets": {"runs": [f"run-{number}" for number in range(JOBS)]},
        }
    )


class Training:
    """What a trainer leaves on disk, and the process that follows it."""

    def __init__(self, experiment: Experiment, results: Path, run: str) -> None:
        card = results / "datasets/toy/card.json"
        if not card.exists():
            write_json(card, {"inputs_sha256": "these", "settings": {}})
        self.folder = results / "runs" / run / "training"
        self.folder.mkdir(parents=True)
        config = self.folder.parent / "config.json"
        config.write_text(frozen_run(experiment, run), encoding="utf-8")
        self.metrics = Metrics(self.folder / "metrics.jsonl", 0)
        self.log = self.folder / "live.log"
        tracking = experiment.config.tracking.model_dump_json()
        with open(self.log, "a", encoding="utf-8") as log:
            self.follower = subprocess.Popen(
                [
                    sys.executable, "-m", "tvts", "follow", str(config), "--dataset", str(card),
                    "--metrics", str(self.metrics.path), "--tracking", tracking,
                ],
                stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip

    def end(self) -> str:
        assert self.follower.stdin is not None
        self.follower.stdin.close()
        self.follower.wait(300)
        return self.log.read_text(encoding="utf-8")


def stored(server: Server) -> dict[str, list[int]]:
    """Run -> steps whose loss the server holds, in order of time."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("live")
    if experiment is None:
        return {}
    runs = client.search_runs([experiment.experiment_id], "tags.`tvts.kind` = 'training'", max_results=100)
    names = [run.info.run_name for run in runs]
    assert len(names) == len(set(names)), "one run for each training"
    return {
        run.info.run_name: sorted(m.step for m in client.get_metric_history(run.info.run_id, "loss")) for run in runs
    }


def test_eight_trainings_at_once_lose_nothing_while_the_server_dies_and_comes_back(
    server: Server, experiment: Experiment, tmp_path: Path
) -> None:
    trainings = {run: Training(experiment, tmp_path / "results", run) for run in experiment.runs}
    for step in range(1, RECORDS + 1):
        for training in trainings.values():
            training.metrics.append(step, epoch=step / 10, loss=1 / step)
    wait_for("first points on the server", lambda: any(stored(server).values()), every=1)
    server.kill()
    began = time.monotonic()
    for step in range(RECORDS + 1, 2 * RECORDS + 1):
        for training in trainings.values():
            training.metrics.append(step, epoch=step / 10, loss=1 / step)
    assert time.monotonic() - began < 30, "writing does not wait for a server that is away"
    wait_for(
        "errors swallowed",
        lambda: all("failed" in training.log.read_text() for training in trainings.values()),
    )
    server.start()
    everything = {run: list(range(1, 2 * RECORDS + 1)) for run in trainings}
    wait_for("all points on the server", lambda: stored(server) == everything, every=2)
    assert all("all there is" in training.end() for training in trainings.values())
    track(experiment, tmp_path / "results")
    assert stored(server) == everything, "importing again adds nothing twice"


def test_the_import_completes_what_the_live_view_missed_and_forgets_what_was_trained_again(
    server: Server, experiment: Experiment, tmp_path: Path
) -> None:
    training = Training(experiment, tmp_path / "results", "run-0")
    for step in (1, 2, 3):
        training.metrics.append(step, epoch=step / 10, loss=1 / step)
    wait_for("three points", lambda: stored(server).get("run-0") == [1, 2, 3])
    training.follower.kill()
    training.follower.wait()
    again = Metrics(training.metrics.path, 2)
    for step in (3, 4):
        again.append(step, epoch=step / 10, loss=1 / step)
    track(experiment, tmp_path / "results")
    assert stored(server)["run-0"] == [1, 2, 3, 4]
    training.metrics.path.unlink()
    track(experiment, tmp_path / "results")
    assert stored(server)["run-0"] == [1, 2, 3, 4], "nothing is forgotten because its file is gone"
    from mlflow import MlflowClient

    where = MlflowClient(server.uri).get_experiment_by_name("live").artifact_location
    assert where == (tmp_path / "results/mlartifacts").as_uri(), "the follower puts artifacts where the import does"


def test_a_follower_whose_run_an_import_has_deleted_sends_everything_to_another(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    from tvts.live import Follower

    experiment = tracked_at(f"sqlite:///{tmp_path}/store.db")
    config = tmp_path / "results/runs/run-0/config.json"
    config.parent.mkdir(parents=True)
    config.write_text(frozen_run(experiment, "run-0"), encoding="utf-8")
    card = tmp_path / "card.json"
    write_json(card, {"inputs_sha256": "these", "settings": {}})
    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    follower = Follower(config, [card], metrics.path, experiment.config.tracking)
    for step in (1, 2):
        metrics.append(step, epoch=step / 10, loss=1 / step)
    assert follower.send()
    client = MlflowClient(experiment.config.tracking.uri)
    client.delete_run(follower.run_id)
    metrics.append(3, epoch=0.3, loss=0.3)
    assert not follower.send()
    assert follower.send()
    assert [metric.step for metric in client.get_metric_history(follower.run_id, "loss")] == [1, 2, 3]


def track(experiment: Experiment, results: Path) -> None:
    config = results / "report/config.json"
    write_json(config, deep_merge(json.loads(experiment.config.model_dump_json()), {}))
    subprocess.run(
        [sys.executable, "-m", "tvts", "track", "--config", str(config), "--results", str(results)], check=True
    )
