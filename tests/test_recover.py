"""Only the jobs of a dead workflow are cancelled, and only when it is dead. On a real cluster: tests/slurm/test_faults.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import wait_for

from tvts.config import UserError
from tvts.recover import LOCKS, hold, recover

SQUEUE = """#!/bin/sh
cat {folder}/queue
"""
SCANCEL = """#!/bin/sh
echo "$@" >> {folder}/cancelled
grep -v "{run}|{work}$" {folder}/queue > {folder}/rest
mv {folder}/rest {folder}/queue
"""
RUN = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
SNAKEFILE = """
rule made:
    output: "made"
    shell: "[ -e once ] || {{ touch once; sleep 60; }}; touch {output}"
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a workflow died, with two of its jobs in the queue, beside those of other folders and a shell in this one."""
    work = tmp_path / "work"
    (work / LOCKS).mkdir(parents=True)
    (work / LOCKS / "0.output.lock").touch()
    jobs = [f"17|{RUN}|{work}", f"18|{RUN}|{tmp_path}/elsewhere", f"19|mine_{RUN}|{work}", f"20|interactive|{work}"]
    (tmp_path / "queue").write_text("\n".join(jobs) + "\n", encoding="utf-8")
    for name, text in {"squeue": SQUEUE, "scancel": SCANCEL}.items():
        (tmp_path / name).write_text(text.format(folder=tmp_path, work=work, run=RUN), encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return work


def test_jobs_of_this_folder_alone_are_cancelled(work: Path) -> None:
    recover(work, [])
    assert (work.parent / "cancelled").read_text() == "17 19\n"
    left = [line.split("|")[0] for line in (work.parent / "queue").read_text().splitlines()]
    assert left == ["18", "20"], "nor is the job in which this runs, which is no job of Snakemake's"


def test_a_workflow_that_lives_is_left_alone(work: Path) -> None:
    alive = hold(work)
    assert alive is not None
    with pytest.raises(UserError, match="a workflow is running here, on "):
        recover(work, [])
    assert not (work.parent / "cancelled").exists()
    alive.close()
    recover(work, [])
    assert (work.parent / "cancelled").exists()


def recovering(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """`tvts recover COMMAND` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "tvts", "recover", *command], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_command_runs_unlocked_and_its_status_is_returned(work: Path) -> None:
    program = "import sys; open('calls', 'a').write(' '.join(sys.argv[1:]) + ';'); sys.exit(0 if '--unlock' in sys.argv else 3)"
    assert recovering(work, sys.executable, "-c", program, "all").returncode == 3
    assert (work / "calls").read_text() == "all --unlock;all;"
    assert (work.parent / "cancelled").exists()


def test_where_nothing_died_the_command_simply_runs(work: Path) -> None:
    (work / LOCKS / "0.output.lock").unlink()
    run = recovering(work, sys.executable, "-c", "import sys; print(*sys.argv[1:])", "all")
    assert (run.stdout, run.stderr, run.returncode) == ("all\n", "", 0)
    assert not (work.parent / "cancelled").exists()


def test_without_slurm_there_is_nothing_to_cancel(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    recover(work, [])


def test_a_workflow_that_was_killed_goes_on(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--rerun-incomplete"]
    with open(tmp_path / "log", "wb") as log:
        first = subprocess.Popen(
            [sys.executable, "-m", "tvts", "recover", *command],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_for("the job", (tmp_path / "once").exists)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    locked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "LockException" in locked.stderr
    again = recovering(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "made").exists()
