"""Only the jobs of a dead workflow are cancelled, and only when it is dead. On a real cluster: tests/slurm/test_faults.py."""

import sys
from pathlib import Path

import pytest

from tvts.config import UserError
from tvts.recover import hold, recover

SQUEUE = """#!/bin/sh
cat {folder}/queue
"""
SCANCEL = """#!/bin/sh
echo "$@" >> {folder}/cancelled
grep -v " {work}$" {folder}/queue > {folder}/rest
mv {folder}/rest {folder}/queue
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two jobs in the queue, beside another user of the same queue."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "queue").write_text(f"17 {work}\n18 {tmp_path}/elsewhere\n19 {work}\n", encoding="utf-8")
    for name, text in {"squeue": SQUEUE, "scancel": SCANCEL}.items():
        (tmp_path / name).write_text(text.format(folder=tmp_path, work=work), encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return work


def test_jobs_of_this_folder_alone_are_cancelled(work: Path) -> None:
    assert recover(work, []) == 0
    assert (work.parent / "cancelled").read_text() == "17 19\n"
    assert (work.parent / "queue").read_text() == f"18 {work.parent}/elsewhere\n"


def test_a_workflow_that_lives_is_left_alone(work: Path) -> None:
    alive = hold(work)
    assert alive is not None
    with pytest.raises(UserError, match="a workflow is running here, on "):
        recover(work, [])
    assert not (work.parent / "cancelled").exists()
    alive.close()
    assert recover(work, []) == 0


def test_the_command_runs_unlocked_and_its_status_is_returned(work: Path) -> None:
    program = "import sys; open('calls', 'a').write(' '.join(sys.argv[1:]) + ';'); sys.exit(0 if '--unlock' in sys.argv else 3)"
    assert recover(work, [sys.executable, "-c", program, "all"]) == 3
    assert (work / "calls").read_text() == "all --unlock;all;"


def test_without_slurm_nothing_is_done(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="squeue: not found"):
        recover(work, [])
