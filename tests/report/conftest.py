"""Finished results of an experiment, written as the stages write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.train.conftest import SETTINGS, dataset_card  # noqa: F401

from tvts.config import Experiment
from tvts.files import write_json

REGISTERS = ("descriptive", "spoken")
CONFIG: dict[str, Any] = {
    "corpora": {"toy": {"source": "local", "list": "list.csv"}},
    "datasets": {"toy": SETTINGS},
    "models": {"tiny": {"clip": "clip"}},
    "runs": {
        "base": {"set": {"model": {"preset": "tiny"}, "data": {"datasets": ["toy"]}}},
        "clip": {"set": {"kind": "clip", "model": {"preset": "tiny"}}},
    },
    "ablations": {
        "depth": {"run": "base", "axis": "text.frozen_blocks", "values": [0, 1, "all"], "seeds": [0, 1, 2], "title": "frozen text blocks"}
    },
    "benchmarks": {
        "words": {
            "adapter": "table", "annotations": "words", "videos": "videos", "protocols": ["retrieval"], "obtain": "generated",
        },
        "actions": {
            "adapter": "table", "annotations": "actions", "videos": "videos", "protocols": ["recognition"], "obtain": "generated",
        },
    },
    "targets": {"runs": ["base", "clip"], "ablations": ["depth"], "benchmarks": ["words", "actions"]},
}  # fmt: skip


@pytest.fixture
def experiment() -> Experiment:
    """A run, its CLIP, and an ablation of three labels and three seeds."""
    return Experiment.resolve(CONFIG)


@pytest.fixture
def add_score(tmp_path: Path) -> Callable[..., None]:
    """Write one score file."""

    def add(run: str, benchmark: str, protocol: str, used: int = 100, **metrics: float) -> None:
        body = {
            "run": run,
            "benchmark": benchmark,
            "protocol": protocol,
            "metrics": metrics,
            "intervals": {name: [value - 2, value + 2] for name, value in metrics.items() if "[" not in name},
            "chance": {name: 1.0 for name in metrics},
            "policy": {},
            "coverage": {"items": 100, "used": used, "missing": 100 - used, "substituted": 0},
        }
        write_json(tmp_path / "scores" / run / f"{benchmark}.{protocol}.json", body)

    return add


@pytest.fixture
def scored(experiment: Experiment, add_score: Callable[..., None]) -> Experiment:
    """Every run scored: the ablation's label i and seed j give text-to-video 50 + 10 i + j."""
    for i, runs in enumerate(experiment.members["depth"].values()):
        for j, run in enumerate(runs):
            tagged = {"t2v_R@1[concepts=seen]": 60.0 + 10 * i + j, "t2v_R@1[concepts=unseen]": 40.0 + 5 * i - j}
            add_score(run, "words", "retrieval", **{"t2v_R@1": 50.0 + 10 * i + j, "v2t_R@1": 48.0 + 9 * i} | tagged)
            add_score(run, "actions", "recognition", top1=30.0 + i)
            add_score(run, "toy", "sorting", sorting=70.0 + i, sorting_all=50.0 + i)
    add_score("clip", "words", "retrieval", **{"t2v_R@1": 45.0, "v2t_R@1": 41.0, "t2v_R@1[concepts=unseen]": 44.0})
    add_score("clip", "actions", "recognition", used=99, top1=12.0)
    return experiment


@pytest.fixture
def distorted(scored: Experiment, tmp_path: Path) -> Experiment:
    """Drift of two blocks and the output, the less the more is frozen; seed j shifts retrieval by j."""
    drifts = ([0.3, 0.4, 0.5], [0.0, 0.2, 0.3], [0.0, 0.0, 0.0])
    runs = {run: (i, j) for i, runs in enumerate(scored.members["depth"].values()) for j, run in enumerate(runs)}
    for run, (i, j) in {**runs, "clip": (2, 0)}.items():
        level = 44 if run == "clip" else 20 + 10 * i + j
        metrics = {
            f"{register}_{measure}_drift": drifts[i][-1] for register in REGISTERS for measure in ("cka", "cosine")
        }
        metrics |= {
            f"{register}_R@1{suffix}": level - 10.0 * bool(suffix)
            for register in REGISTERS
            for suffix in ("", "_across")
        }
        body = {
            "run": run, "benchmark": "toy", "protocol": "distortion", "metrics": metrics, "intervals": {}, "policy": {},
            "chance": {f"{register}_R@1": 1.0 for register in REGISTERS},
            "coverage": {"items": 9, "used": 9, "missing": 0, "substituted": 0},
            "blocks": {
                register: {measure: [factor * value for value in drifts[i]] for measure in ("cka", "cosine")}
                for register, factor in (("descriptive", 1), ("spoken", 2))
            },
        }  # fmt: skip
        write_json(tmp_path / "scores" / run / "toy.distortion.json", body)
    return scored
