"""Going on after a workflow's main process died: its orphaned SLURM jobs cancelled, its lock lifted, the same command run again."""

import fcntl
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from tvts.config import UserError

ALIVE = Path(".snakemake/main")
"""Locked by the main process as long as it lives, however it ends."""
LOCKS = Path(".snakemake/locks")
"""Where Snakemake keeps its lock, which a main process that is killed leaves behind."""
SUBMITTED = re.compile(r".*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Names of the jobs that Snakemake submits: they end in the id of its run."""
WAIT_SECONDS = 600.0


def hold(folder: Path) -> IO[str] | None:
    """Mark a workflow's main process as alive until the returned file is closed; None when another one is."""
    path = folder / ALIVE
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(socket.gethostname())
    file.flush()
    return file


def recover(folder: Path, command: list[str]) -> None:
    """Cancel the SLURM jobs that a dead main process left in `folder`, lift its lock, and become `command`, if there is one.

    Where none has died, nothing is cancelled and no word said. Raises UserError when the main process is still alive.
    """
    held = hold(folder)
    if held is None:
        raise UserError(
            f"{folder}: a workflow is running here, on {(folder / ALIVE).read_text()}; stop it there first (Ctrl-C)"
        )
    with held:
        died = any((folder / LOCKS).glob("*"))
        if died:
            cancel(folder)
    if died and command and (status := subprocess.run([*command, "--unlock"], cwd=folder, check=False).returncode):
        sys.exit(status)
    if command:
        os.chdir(folder)
        os.execvp(command[0], command)


def cancel(folder: Path) -> None:
    """Cancel the jobs that Snakemake submitted in `folder`, and wait until they are gone, so that nothing writes there any more."""
    end = time.monotonic() + WAIT_SECONDS
    cancelled: set[str] = set()
    while found := orphans(folder):
        if fresh := [job for job in found if job not in cancelled]:
            print(f"cancelling {len(fresh)} jobs of the workflow that died: {' '.join(fresh)}", flush=True)
        subprocess.run(["scancel", *found], check=False)
        cancelled.update(found)
        if time.monotonic() > end:
            raise UserError(f"jobs {' '.join(found)} are still there after {WAIT_SECONDS:.0f} s; see `squeue --me`")
        time.sleep(1)


def orphans(folder: Path) -> list[str]:
    """Ids of this user's SLURM jobs that Snakemake submitted and whose working directory is `folder`; none without SLURM."""
    try:
        listed = subprocess.run(["squeue", "--me", "-h", "-o", "%A|%j|%Z"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return []
    except subprocess.CalledProcessError as error:
        if "configuration source" in error.stderr:  # SLURM's programs are installed, but this machine is in no cluster
            return []
        raise UserError(f"squeue failed, so nothing was done: {error.stderr.strip()}") from None
    jobs = (line.split("|", 2) for line in listed.stdout.splitlines())
    return sorted(
        {job for job, name, where in jobs if SUBMITTED.fullmatch(name) and Path(where).resolve() == folder.resolve()}
    )
