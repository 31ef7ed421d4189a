"""What an edit of the config makes again: what decides a result does, what only decides where and how fast work is done does not."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.workflow.snake import job_counts, snakemake

from tvts.config import deep_merge

FAKE = """#!/bin/sh
# stands for every command: makes the files that its options name
command=$1
while [ $# -gt 1 ]; do
    case "$1" in
        --model) [ $command != pretrain ] || mkdir -p "$2" ;;
        --output | --tar | --index | --card) [ -e "$2" ] || touch "$2" ;;
    esac
    shift
done
"""
CONFIG: dict[str, Any] = {
    "corpora": {"yt_temporal": {"shards": 2}, "webvid": {"shards": 1}},
    "runs": {"b16": {"set": {"launch": {"nodes": 1, "gpus": 0}}}},
    "targets": {"runs": ["b16"], "ablations": [], "benchmarks": ["msrvtt"]},
}
BROUGHT = (
    "data/yt_temporal/ids.csv",
    "data/webvid/webvid_train.csv",
    "data/whisper/large-v3.pt",
    "data/clip/openai-clip-vit-base-patch16/config.json",
    "data/msrvtt/MSRVTT_JSFUSION_test.csv",
    "data/msrvtt/videos/all/video0.mp4",
)
SCORES = [f"results/scores/b16/{name}.json" for name in ("msrvtt.retrieval", "yt.sorting", "yt.distortion")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run."""
    folder = tmp_path_factory.mktemp("changes")
    for name in BROUGHT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "bin").mkdir()
    (folder / "bin/tvts").write_text(FAKE, encoding="utf-8")
    (folder / "bin/tvts").chmod(0o755)
    snakemake(folder, *SCORES, overlay=CONFIG, environment={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"})
    return folder


def made_again(folder: Path, change: dict[str, Any]) -> dict[str, int]:
    """Jobs per rule that a changed config asks for."""
    return job_counts(snakemake(folder, *SCORES, "-n", "--quiet", "rules", overlay=deep_merge(CONFIG, change)))


def test_where_and_how_fast_work_is_done_makes_nothing_again(made: Path) -> None:
    run = {
        "launch": {"nodes": 2, "gpus": 4, "threads": 3, "mem_mb": 9, "minutes": 9, "accumulate": 2, "parallel": "fsdp"},
        "data": {"workers": 3, "cache_gb": 1.0, "max_corrupt_share": 0.2},
        "train": {"checkpoint_minutes": 1.0, "keep_checkpoints": 5, "log_every": 3, "compile": False, "activation_checkpointing": True},
    }  # fmt: skip
    change = {
        "corpora": {
            "yt_temporal": {
                "obtain": "ask", "fetch": {"attempts": 9, "timeout_seconds": 60.0}, "transcribe": {"device": "cpu"},
            }
        },
        "models": {"b16": {"obtain": "ask"}},
        "runs": {"b16": {"set": run}},
        "benchmarks": {"msrvtt": {"obtain": "ask"}},
        "evaluation": {"device": "cpu"},
        "media": {"reader": "decord"},
        "tracking": {"uri": "http://10.0.0.5:5000"},
        "resources": {"videos_per_hour": 9, "embed": {"gpus": 2, "threads": 2, "mem_mb": 9}, "download": {"runtime": 9}},
    }  # fmt: skip
    assert made_again(made, {}) == {}
    assert made_again(made, change) == {}


def test_what_decides_a_training_makes_it_again(made: Path) -> None:
    counts = made_again(made, {"runs": {"b16": {"set": {"optim": {"lr_new": 1.0e-3}}}}})
    counts.pop("total", None)
    assert counts == {"freeze": 1, "pretrain": 1, "embed": 1, "score": 1, "score_sorting": 1, "score_distortion": 1}


def test_what_decides_a_score_alone_embeds_nothing_again(made: Path) -> None:
    counts = made_again(made, {"evaluation": {"ties": "optimistic", "dsl_temperature": 50.0}})
    assert counts == {"score": 1, "score_distortion": 1}


def test_what_is_cut_is_cut_again(made: Path) -> None:
    counts = made_again(made, {"corpora": {"webvid": {"fetch": {"crf": 20}}}})
    assert (counts["download"], counts["dataset_shard"], counts["pretrain"]) == (1, 1, 1)
