"""How the rule starts a training: one process per GPU, by torchrun here and by srun in a SLURM job, and which job it may requeue."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.snake import snakemake

TVTS = """#!/bin/sh
# stands for the trainer: says how it was started, and makes its outputs
echo "rank ${RANK:-none} of ${WORLD_SIZE:-none}, requeues ${TVTS_REQUEUE:-none}" >> started
while [ $# -gt 1 ]; do
    case "$1" in
        --model) mkdir -p "$2" ;;
        --card) touch "$2" ;;
    esac
    shift
done
"""
SRUN = """#!/bin/sh
# stands for SLURM's: says what it was asked for, and starts one process
asked=
while [ "$1" != tvts ]; do asked="$asked $1"; shift; done
echo "srun$asked" >> started
exec "$@"
"""
BROUGHT = (
    "results/datasets/yt/card.json",
    "results/datasets/webvid/card.json",
    "data/clip/openai-clip-vit-base-patch16/config.json",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a trainer and an srun that only say what they are asked for."""
    for name in BROUGHT:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "bin").mkdir()
    for name, text in {"tvts": TVTS, "srun": SRUN}.items():
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def started(folder: Path, *arguments: str, launch: dict[str, Any], **environment: str) -> list[str]:
    """What the programs that the rule started have said."""
    overlay = {"runs": {"b16": {"set": {"launch": launch}}}}
    environment["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    chosen = ["--allowed-rules", "freeze", "pretrain", *arguments]
    snakemake(folder, "results/runs/b16/card.json", *chosen, overlay=overlay, environment=environment)
    return sorted((folder / "started").read_text().splitlines())


def test_one_process_starts_alone(folder: Path) -> None:
    assert started(folder, launch={"nodes": 1, "gpus": 1}) == ["rank none of none, requeues none"]


def test_several_are_started_by_torchrun(folder: Path) -> None:
    found = started(folder, launch={"nodes": 1, "gpus": 2})
    assert found == ["rank 0 of 2, requeues none", "rank 1 of 2, requeues none"]


@pytest.mark.parametrize(("submitted", "requeues"), [([], "none"), (["--mode", "remote"], "17")])
def test_a_slurm_job_is_requeued_only_if_snakemake_submitted_it(
    folder: Path, submitted: list[str], requeues: str
) -> None:
    said, asked = started(folder, *submitted, launch={"nodes": 2, "gpus": 2, "threads": 1}, SLURM_JOB_ID="17")
    assert said == f"rank none of none, requeues {requeues}"
    assert asked.endswith(" --nodes=2 --ntasks=4 --ntasks-per-node=2 --cpus-per-task=1")
