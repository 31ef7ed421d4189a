"""Ctrl-C, for real: a clear last line, no traceback, and the same command goes on from there."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluate.conftest import make_videos, tvts_folder  # noqa: F401
from tests.train.conftest import dataset_card, make_run  # noqa: F401
from tests.train.processes import write_config
from tests.waiting import wait_for

from tvts.config import Run

LAST = "tvts: interrupted; finished work is kept, the same command continues"


@pytest.fixture(autouse=True)
def interruptible() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and so would the commands that tests start from there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt(command: list[str], folder: Path, once: str) -> tuple[int, str]:
    """Start a command, press Ctrl-C (to all its processes, as a terminal does) once its output holds `once`; exit status, output."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tvts", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if once in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    told += end_of(process)
    return process.returncode, told


def end_of(process: subprocess.Popen[str]) -> str:
    """What an interrupted command says last; all its processes are killed when it does not end."""
    try:
        stdout, stderr = process.communicate(timeout=120)
        return stdout or stderr
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_embedding_goes_on(tmp_path: Path, tvts_folder: Path) -> None:  # noqa: F811
    videos = [f"{number}.mp4" for number in range(120)]
    make_videos(tmp_path, videos)
    command = ["embed", *videos, "--model", str(tvts_folder), "--keep", "keep", "--threads", "1"]
    status, told = interrupt(command, tmp_path, once="3/120 ")
    assert (status, told.splitlines()[-1]) == (130, LAST)
    assert "Traceback" not in told
    assert not (tmp_path / "features.parquet").exists()
    kept = len(list(tmp_path.glob("keep/*/*.parquet")))
    assert 3 <= kept < 120
    again = subprocess.run(
        [sys.executable, "-m", "tvts", *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert again.stdout == "features.parquet: 120 rows\n"
    assert len(again.stderr.splitlines()) == 120 - kept


@pytest.mark.slow
def test_training(tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path) -> None:  # noqa: F811
    run = make_run(train={"steps_per_epoch": 2000, "log_every": 1})
    config = write_config(tmp_path / "run", run)
    command = ["pretrain", str(config), "--dataset", str(dataset_card)]
    command += ["--folder", "training", "--model", "model", "--card", "card.json"]
    status, told = interrupt(command, tmp_path, once="step 2/")
    assert (status, told.splitlines()[-1]) == (130, LAST)
    assert "Traceback" not in told
    assert not (tmp_path / "card.json").exists()


def test_a_watched_workflow(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        'rule all:\n    output: "never"\n    shell: "touch begun; sleep 60; touch {output}"\n', encoding="utf-8"
    )
    command = ["watch", sys.executable, "-m", "snakemake", "--cores", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tvts", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    wait_for("the job", lambda: (tmp_path / "begun").exists() or process.poll() is not None)
    assert process.returncode is None
    os.killpg(process.pid, signal.SIGINT)
    told = end_of(process)
    assert (process.returncode, told.splitlines()[-1]) == (130, LAST)
    assert "Traceback" not in told
