"""A training and its job: every attempt leaves its record, lost neighbours and missing GPUs are told in one line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.waiting import free_ports, wait_for

from tvts.config import Run, UserError
from tvts.train import job
from tvts.train.attempts import attempt, attempts, continue_in_queue, summary
from tvts.train.stage import pretrain

KILLED = """
import sys, time
from pathlib import Path
from tvts.config import Run
from tvts.train import attempts
attempts.HEARTBEAT_SECONDS = 0.1
folder = Path(sys.argv[1])
with attempts.attempt(folder, Run.model_validate_json(sys.argv[2]), 4, 10.0):
    (folder / "step-00000007.json").touch()
    print("running", flush=True)
    time.sleep(600)
"""
PAIR = """
import os, sys, time
import torch, torch.distributed as dist
from tvts.cli import main
from tvts.train import distributed, job
import tvts.train.stage as stage
def two(*_):
    with job.neighbours():
        process = distributed.start(0)
        print("joined", flush=True)
        for _ in range(1000):
            distributed.agree(process, False)
            time.sleep(0.02)
stage.pretrain = two
main()
"""


def test_a_killed_attempt_leaves_its_record(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run(launch={"nodes": 2, "gpus": 2})
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), run.model_dump_json()],
        stdout=subprocess.PIPE,
        env=os.environ | {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "n[1-2]"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    wait_for("a heartbeat", lambda: (beat := attempts(tmp_path)[0])["seconds"] > 0.5 and beat["after"])
    process.kill()
    process.wait()
    (record,) = attempts(tmp_path)
    assert (record["job"], record["nodes"], record["processes"], record["gpus"]) == ("17", "n[1-2]", 4, 4)
    assert (record["before"], record["after"]) == (None, "step-00000007.json")
    assert 0.5 < record["seconds"] < 600
    spent = summary([record, record | {"job": "18"}])
    assert spent["slurm_jobs"] == "17 18"
    assert spent["gpu_hours"] == pytest.approx(2 * 4 * record["seconds"] / 3600)


def test_time_spent_in_vain_is_told(
    tmp_path: Path, make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(launch={"minutes": 2})
    path = tmp_path / "attempts/1.json"
    path.parent.mkdir(parents=True)
    record = {"minutes": 2, "seconds": 118.0, "before": None, "after": None}
    path.write_text(json.dumps(record), encoding="utf-8")
    with attempt(tmp_path, run, 1, 2):
        pass
    said = capsys.readouterr().out
    assert "ran 118 s of its 2 min and reached no checkpoint: raise launch.minutes (now 2)" in said
    path.write_text(json.dumps(record | {"after": "step-00000003.json"}), encoding="utf-8")
    (tmp_path / "attempts" / sorted(os.listdir(tmp_path / "attempts"))[-1]).unlink()
    with attempt(tmp_path, run, 1, 2):
        pass
    assert capsys.readouterr().out == ""


def test_a_server_that_is_away_changes_nothing(
    tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for name, tracking in {"alone": "", "followed": '{"uri": "http://127.0.0.1:9"}'}.items():
        monkeypatch.setenv("TVTS_TRACKING", tracking)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(make_run().model_dump_json(), encoding="utf-8")
        pretrain(
            folder / "config.json",
            [dataset_card],
            folder / "training",
            folder / "model",
            folder / "card.json",
            "pyav",
            1,
            None,
        )
        weights.append((folder / "model/model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    log = tmp_path / "followed/training/live.log"
    wait_for("the follower's farewell", lambda: "sent 0 records" in log.read_text(encoding="utf-8"))
    assert "`tvts track` sends the rest" in log.read_text(encoding="utf-8")
    assert not (tmp_path / "alone/training/live.log").exists()


SCONTROL = """#!/bin/sh
echo "$@" >> {folder}/asked
[ "$1" = show ] && echo "   JobState={state} Reason=None"
exit {status}
"""


@pytest.mark.parametrize(
    ("state", "status", "saved", "asked"),
    [
        ("RUNNING", 0, True, ["show job 17", "requeue 17"]),
        ("RUNNING", 0, False, ["show job 17"]),
        ("CANCELLED", 0, True, ["show job 17"]),
        ("RUNNING", 1, True, ["show job 17", "requeue 17"]),
    ],
    ids=["progress", "no progress", "cancelled", "refused"],
)
def test_only_a_running_job_that_got_further_is_queued_again(
    tmp_path: Path,
    make_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    status: int,
    saved: bool,
    asked: list[str],
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(SCONTROL.format(folder=tmp_path, state=state, status=status), encoding="utf-8")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("tvts.train.attempts.ENDED_SECONDS", 0.0)
    monkeypatch.delenv("TVTS_REQUEUE", raising=False)
    with attempt(tmp_path, make_run(), 1, 60):
        if saved:
            (tmp_path / "step-00000003.json").touch()
    continue_in_queue(tmp_path, leads=True)
    assert not (tmp_path / "asked").exists(), "only when the rule says so"
    monkeypatch.setenv("TVTS_REQUEUE", "17")
    continue_in_queue(tmp_path, leads=True)
    assert (tmp_path / "asked").read_text().splitlines() == asked


def test_gpus_that_are_not_there_are_told(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("TVTS_PRETEND_GPUS", raising=False)
    job.require_gpus(make_run())
    with pytest.raises(UserError, match=r"launch.gpus: 2 asked for, but torch .* sees none on"):
        job.require_gpus(make_run(launch={"gpus": 2}))


def test_a_process_that_loses_its_neighbour_says_so_in_one_line(tmp_path: Path) -> None:
    port = str(free_ports(1)[0])
    arguments = ["pretrain", "config", "--dataset", "card", "--folder", "f", "--model", "m", "--card", "c"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PAIR, *arguments],
            env=os.environ
            | {
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": "0",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert "joined" in process.stdout.readline()
    both[1].send_signal(signal.SIGKILL)
    _, said = both[0].communicate(timeout=300)
    both[1].communicate()
    assert both[0].returncode == 2
    assert said.startswith("tvts: process 0 on ")
    assert "lost the others" in said
    assert len(said.splitlines()) == 1
