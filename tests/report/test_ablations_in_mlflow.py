"""Each ablation is a parent run in MLflow with all its members as children, also those it shares with another."""

from pathlib import Path

from mlflow import MlflowClient
from tests.report.conftest import CONFIG

from tvts.config import Experiment
from tvts.tracking import track

SHARED = {"run": "base", "values": {"first": {"text": {"frozen_blocks": 1}}, "slow": {"optim": {"lr_new": 1.0e-5}}}}


def test_members_are_children_of_every_ablation_they_are_in(tmp_path: Path, scored: Experiment) -> None:
    config = CONFIG | {"ablations": CONFIG["ablations"] | {"rate": SHARED, "untrained": SHARED | {"seeds": [9]}}}
    experiment = Experiment.resolve(config)
    assert experiment.members["rate"]["first"] == experiment.members["depth"]["1"][:1]
    for run in (*experiment.ablation_runs("depth"), *experiment.ablation_runs("rate"), "base"):
        (tmp_path / "runs" / run / "model").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / run / "config.json").write_text("{}")
    for _ in range(2):  # importing again adds nothing
        track(experiment, tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("tvtsv2").experiment_id], max_results=1000)
    parents = {run.info.run_name: run.info.run_id for run in found if run.data.tags["tvts.kind"] == "ablation"}
    assert parents.keys() == {"ablation depth", "ablation rate"}  # a target, and one that is trained
    for ablation in ("depth", "rate"):
        parent = parents[f"ablation {ablation}"]
        children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent]
        assert sorted(run.info.run_name for run in children) == sorted(experiment.ablation_runs(ablation))
    link = next(run for run in found if run.data.tags["tvts.kind"] == "member")
    training = client.get_run(link.data.tags["tvts.training"])
    assert training.info.run_name == link.info.run_name == experiment.members["rate"]["first"][0]
    assert link.data.params["text.frozen_blocks"] == "1"
