"""Starts real trainers: one process, or several that find each other as torchrun's would."""

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import free_ports

from tvts.config import Run

STARTED: list[subprocess.Popen[str]] = []
"""All trainers of the running test; those that a failure leaves behind are ended with it (`conftest.py`)."""


def write_config(folder: Path, run: Run) -> Path:
    """The frozen config of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(run.model_dump_json(), encoding="utf-8")
    return path


def start(
    folder: Path, run: Run, card: Path, world: int = 1, minutes: float = 60, cards: int = 1
) -> list[subprocess.Popen[str]]:
    """`tvts pretrain` in `world` processes, which write to `folder`; the data set of `card` is given `cards` times."""
    command = [
        sys.executable, "-m", "tvts", "pretrain", str(write_config(folder, run)),
        *["--dataset", str(card)] * cards, "--minutes", str(minutes),
        "--folder", str(folder / "training"), "--model", str(folder / "model"), "--card", str(folder / "card.json"),
    ]  # fmt: skip
    port = str(free_ports(1)[0])
    place = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if world > 1 else {}
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | place | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    STARTED.extend(processes)
    return processes


def finish(processes: list[subprocess.Popen[str]], status: int = 0) -> list[str]:
    """Wait for the trainers; what each one printed."""
    printed = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [status] * len(processes), printed[0][-2000:]
    return printed


def kill(processes: list[subprocess.Popen[str]]) -> None:
    """As a lost node does."""
    for process in processes:
        process.kill()
    for process in processes:
        process.communicate(timeout=60)
