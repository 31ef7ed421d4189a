"""Under SLURM a training that must stop puts its own job back into the queue, as often as it takes."""

import os
import signal
import subprocess
import time

from tvts.train.metrics import show

PATIENCE = 120.0
"""Seconds in which SLURM ends a job that it has put back."""


def requeue() -> bool:
    """Ask SLURM to run this job again from its start. False outside SLURM, for a job that is being cancelled, and when SLURM refuses."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or _ask("squeue", "--noheader", "--jobs", job, "--format", "%T") != "RUNNING":
        return False
    return _ask("scontrol", "requeue", job) is not None


def wait_for_the_end() -> None:
    """Outlive the request: a process that leaves by itself would fail the job. SLURM's signal ends this one."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    show("the job goes back into the queue and continues from there", last=True)
    time.sleep(PATIENCE)


def _ask(*command: str) -> str | None:
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None
