"""What each stage has cost: core-hours, GPU-hours, bytes, retries. From Snakemake's benchmark files and, for trainings, from the
records of their attempts, so that time lost to kills counts too."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tvts.config import Experiment
from tvts.config.schema import GpuResources, Resources
from tvts.layout import Layout
from tvts.train.attempts import attempts, summary

STAGES = {
    "download": "corpora/*/clips/*",
    "transcribe": "corpora/*/transcripts/*",
    "dataset": "datasets/*/*",
    "pretrain": "runs/*/model/*",
    "embed": "embeddings/*/*",
    "score": "scores/*/*",
}
"""Folders of `results/benchmarks`, and what the stage left behind under `results/`."""


@dataclass
class Cost:
    """Sums over the finished jobs of one stage."""

    jobs: int = 0
    retries: int = 0
    core_hours: float = 0.0
    busy_core_hours: float = 0.0
    gpu_hours: float = 0.0
    bytes: int = 0
    longest_hours: float = 0.0


def costs(experiment: Experiment, layout: Layout) -> dict[str, Cost]:
    """Stage -> what it has cost so far; stages that have not run are left out."""
    found = {}
    for stage, outputs in STAGES.items():
        files = sorted((layout.root / "benchmarks" / stage).rglob("*.jsonl"))
        if stage == "pretrain":
            files = [path for path in files if path.stem in experiment.runs]
        if files:
            found[stage] = _stage(experiment, layout, stage, files)
            found[stage].bytes = sum(path.stat().st_size for path in layout.root.glob(outputs) if path.is_file())
    return found


def _stage(experiment: Experiment, layout: Layout, stage: str, files: list[Path]) -> Cost:
    cost = Cost()
    for path in files:
        record = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        hours, retries = record["s"] / 3600, record.get("resources", {}).get("attempt", 1) - 1
        cores, gpus = _reserved(experiment, stage, path.stem)
        if stage == "pretrain" and (tried := attempts(layout.run(path.stem) / "training")):
            spent = summary(tried)
            hours, retries = spent["seconds"] / 3600, spent["attempts"] - 1
        cost.jobs += 1
        cost.retries += retries
        cost.core_hours += hours * cores
        cost.gpu_hours += hours * gpus
        cost.busy_core_hours += _number(record["cpu_time"]) / 3600
        cost.longest_hours = max(cost.longest_hours, hours)
    return cost


def _reserved(experiment: Experiment, stage: str, name: str) -> tuple[int, int]:
    """Cores and GPUs of a job, from the config."""
    if stage == "pretrain":
        launch = experiment.runs[name].launch
        return launch.processes * launch.threads, launch.nodes * launch.gpus
    asked: Resources = getattr(experiment.config.resources, stage)
    if isinstance(asked, GpuResources) and (stage != "score" or name.endswith(".linear_probe")):
        return asked.threads, asked.gpus
    return asked.threads, 0


def _number(value: float | str) -> float:
    """Snakemake writes NA for jobs too short to be measured."""
    return 0.0 if isinstance(value, str) else value


def energy_kwh(jobs: str | None) -> float | None:
    """Energy of SLURM jobs (ids, separated by spaces), where the cluster's accounting measures it."""
    try:
        asked = subprocess.run(
            ["sacct", "-X", "-n", "-P", "-o", "ConsumedEnergyRaw", "-j", (jobs or "").replace(" ", ",")],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    joules = sum(float(line) for line in asked.stdout.split() if line.isdigit())
    return joules / 3.6e6 or None
