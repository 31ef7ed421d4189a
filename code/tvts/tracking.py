"""MLflow: finished and running work under `results/` imported into a tracking store, by one local writer.

The files are the truth; the store is a view of them. Importing again updates what is new and adds nothing twice, because a metric with
the same key, step, time and value is the same row.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from tvts.config import Experiment, fingerprint
from tvts.config import Run as TVTSRun
from tvts.config.resolve import identity
from tvts.config.schema import Tracking
from tvts.corpus.dataset import data_hash
from tvts.files import read_json, sha256_file
from tvts.layout import Layout
from tvts.report.costs import energy_kwh
from tvts.report.linked import VIEW
from tvts.report.scores import HEADLINES
from tvts.train.attempts import attempts, summary
from tvts.train.metrics import read_metrics

BATCH = 1000
EVERYWHERE = "epoch"
"""A key that every record of a metrics file has."""
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # its UI opens with what trainings need
    "mlflow.note.content": "TVTSv2: one run per training, its evaluations below it, ablations as parents of their members.",
}
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""


class Store:
    """One experiment of a tracking store; without `settings.uri` an SQLite file in `root`. Raises MlflowException when a server is away."""

    def __init__(self, settings: Tracking, root: Path) -> None:
        root = root.resolve()
        root.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(settings.uri or f"sqlite:///{root}/mlflow.db")
        found = self.client.get_experiment_by_name(settings.experiment)
        artifacts = (root / "mlartifacts").as_uri()
        self.experiment = (
            found.experiment_id
            if found
            else self.client.create_experiment(settings.experiment, artifact_location=artifacts, tags=EXPERIMENT_TAGS)
        )
        self.known = {run.data.tags["tvts.key"]: run for run in self._all() if "tvts.key" in run.data.tags}

    def _all(self) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def run(
        self, key: str, name: str, tags: dict[str, Any], parent: str | None = None, began: int | None = None
    ) -> str:
        """Id of the run known under `key`, made if need be (as of `began`, milliseconds; None = now); its tags are set."""
        tags = {"tvts.key": key, **{name: str(value) for name, value in tags.items() if value is not None}}
        if parent:
            tags["mlflow.parentRunId"] = parent
        if key not in self.known:
            self.known[key] = self.client.create_run(self.experiment, began, tags, name)
        else:
            self.client.log_batch(self.known[key].info.run_id, tags=[RunTag(*pair) for pair in tags.items()])
        return str(self.known[key].info.run_id)

    def log(self, run_id: str, metrics: list[Metric], params: dict[str, Any], finished: bool) -> None:
        """Add metrics and parameters, and close the run when its work is done."""
        fresh = [Param(key, str(value)[:6000]) for key, value in params.items()]
        self.client.log_batch(run_id, params=fresh[:100])
        self.client.log_batch(run_id, params=fresh[100:])
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        if finished:
            self.client.set_terminated(run_id, "FINISHED", end_time=max((m.timestamp for m in metrics), default=None))

    def drop_if_other(self, key: str, metrics: list[Metric]) -> None:
        """Forget the run under `key` when it holds points that `metrics` lacks: steps sent live, then trained again after a kill."""
        if key in self.known and metrics:
            held = self.client.get_metric_history(self.known[key].info.run_id, EVERYWHERE)
            if not {(m.step, m.timestamp) for m in held} <= {(m.step, m.timestamp) for m in metrics}:
                self.client.delete_run(self.known.pop(key).info.run_id)

    def add_files(self, run_id: str, files: list[Path], folder: str) -> None:
        """Copy files into the run's artifacts."""
        for path in files:
            self.client.log_artifact(run_id, str(path), folder)


def track(experiment: Experiment, results: Path) -> dict[str, Any]:
    """Import every training, every score, the ablations as parents of their members, and the figures; returns what the store holds."""
    layout = Layout(results)
    store = Store(experiment.config.tracking, layout.root)
    parents = {
        name: store.run(
            f"ablation/{name}",
            f"ablation {name}",
            {"tvts.kind": "ablation", "tvts.rule": f"ablation_{name}"},
        )
        for name in _ablations(experiment, layout)
    }
    links: dict[str, str] = {}
    members = [run for name in parents for run in experiment.ablation_runs(name)]
    for name in dict.fromkeys([*experiment.target_runs(), *members]):
        if not (layout.run(name) / "config.json").exists():
            continue
        asked = [ablation for ablation in parents if name in experiment.ablation_runs(ablation)]
        training = _import_training(experiment, layout, store, name, parents[asked[0]] if asked else None)
        links[name] = training
        for ablation in asked[1:]:  # MLflow knows one parent: in further ablations an entry points to the training
            tags = {"tvts.kind": "member", "tvts.run": name, "tvts.training": training}
            entry = store.run(f"member/{ablation}/{name}/{training}", name, tags, parents[ablation])
            store.log(entry, [], dict(_flat(identity(experiment.runs[name]))), finished=True)
        for subject, protocol in experiment.protocols(name):
            path = layout.score(name, subject, protocol)
            if path.exists():
                links[f"{name}/{subject}/{protocol}"] = _import_score(store, path, name, subject, protocol, training)
    figures = sorted(layout.report.glob("figures/*.png"))
    for name, run_id in parents.items():
        store.client.set_tag(run_id, NOTE, _about_ablation(experiment, name, store.experiment, links))
        store.add_files(
            run_id, [path for path in figures if path.stem in (f"ablation_{name}", f"distortion_{name}")], "figures"
        )
        store.log(run_id, [], {}, finished=True)
    about = "Every figure and table of the report, under *Artifacts*."
    report = store.run("report", "report", {"tvts.kind": "report", "tvts.rule": "report", NOTE: about})
    store.add_files(report, figures, "figures")
    store.add_files(report, sorted(layout.report.glob("tables/*")), "tables")
    store.log(report, [], {}, finished=True)
    return {
        "experiment": experiment.config.tracking.experiment,
        "experiment_id": store.experiment,
        "runs": len(store.known),
        "links": links,
    }


def _about_ablation(experiment: Experiment, name: str, store_id: str, links: dict[str, str]) -> str:
    """What one reads when one opens an ablation's run."""
    runs = quote(json.dumps([links[run] for run in experiment.ablation_runs(name) if run in links]))
    compare = f"#/compare-runs?runs={runs}&experiments={quote(json.dumps([store_id]))}&{VIEW}"
    ablation = experiment.config.ablations[name]
    members = "\n".join(f"- {label}: {', '.join(runs)}" for label, runs in experiment.members[name].items())
    return (
        f"**{ablation.title or name}**, varied on run `{ablation.run}`. [Compare its members]({compare}), which are the "
        f"child runs. The figure is under *Artifacts*.\n\n{members}"
    )


def _ablations(experiment: Experiment, layout: Layout) -> list[str]:
    """Those of the targets, and others whose members are all trained."""
    return [
        name
        for name in experiment.config.ablations
        if name in experiment.config.targets.ablations
        or all((layout.run(run) / "model").exists() for run in experiment.ablation_runs(name))
    ]


def _import_training(experiment: Experiment, layout: Layout, store: Store, name: str, parent: str | None) -> str:
    run = experiment.runs[name]
    card_path = layout.run(name) / "card.json"
    card = read_json(card_path) if card_path.exists() else {}
    cards = [layout.dataset_card(dataset) for dataset in run.data.datasets] if run.data else []
    data_sha256 = data_hash(cards) if all(card.exists() for card in cards) else ""
    tags = training_tags(name, run) | {
        "tvts.data_sha256": card.get("data_sha256"),
        "tvts.code_sha256": card.get("code_sha256"),
        "mlflow.source.git.commit": card.get("git_commit"),
    }
    if tried := attempts(layout.metrics(name).parent):
        spent = summary(tried)
        energy = energy_kwh(spent["slurm_jobs"])
        tags |= {f"tvts.{fact}": value for fact, value in (spent | {"energy_kwh": energy}).items()}
    metrics = as_metrics(read_metrics(layout.metrics(name))) if layout.metrics(name).exists() else []
    began = min((metric.timestamp for metric in metrics), default=None)
    key = training_key(name, run, data_sha256)
    store.drop_if_other(key, metrics)
    run_id = store.run(key, name, tags, parent, began)
    store.log(run_id, metrics, dict(_flat(identity(run))), finished=bool(card) or run.kind != "tvts")
    return run_id


def training_key(name: str, run: TVTSRun, data_sha256: str) -> str:
    """What one training is known by in a store: its settings and its data."""
    return f"run/{name}/{fingerprint(run)[:16]}/{data_sha256[:16]}"


def training_tags(name: str, run: TVTSRun) -> dict[str, Any]:
    """Tags that are known before a training has begun."""
    return {
        "tvts.kind": "training" if run.kind == "tvts" else run.kind,
        "tvts.rule": "pretrain" if run.kind == "tvts" else "embed",
        "tvts.run": name,
        "tvts.config_sha256": fingerprint(run),
    }


def as_metrics(records: list[dict[str, Any]]) -> list[Metric]:
    """Records of a metrics file as MLflow's points, with the times at which they were written."""
    return [
        Metric(_metric_name(key), float(value), int(1000 * record["time"]), record["step"])
        for record in records
        for key, value in record.items()
        if key not in ("time", "step")
    ]


def _import_score(store: Store, path: Path, name: str, subject: str, protocol: str, training: str) -> str:
    """A score is a run of its own, below its training; its headline metrics are shown with the training too, to compare trainings by."""
    score = read_json(path)
    tags = {
        "tvts.kind": "evaluation",
        "tvts.rule": "score",
        "tvts.run": name,
        "tvts.benchmark": subject,
        "tvts.protocol": protocol,
    }
    timestamp = int(1000 * path.stat().st_mtime)
    key = f"score/{name}/{subject}.{protocol}/{sha256_file(path)[:16]}"
    run_id = store.run(key, f"{name} {subject} {protocol}", tags, training, timestamp)
    metrics = [
        Metric(_metric_name(key), float(value), timestamp, 0)
        for key, value in score["metrics"].items()
        if value is not None
    ]
    params = {
        "run": name,
        "benchmark": subject,
        "protocol": protocol,
        **score.get("policy", {}),
        **score.get("coverage", {}),
    }
    store.log(run_id, metrics, params, finished=True)
    headlines = {_metric_name(key) for key in HEADLINES[protocol]}
    store.log(
        training,
        [Metric(f"{subject}/{protocol}/{m.key}", m.value, m.timestamp, 0) for m in metrics if m.key in headlines],
        {},
        finished=False,
    )
    return run_id


def _metric_name(key: str) -> str:
    """MLflow allows no '[', ']', '=' or '@' everywhere: `t2v_R@1[concepts=seen]` -> `t2v_R1/concepts/seen`."""
    return key.replace("@", "").replace("[", "/").replace("=", "/").replace("]", "").replace(",", "/")


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list) else value
