"""Going on after a workflow's main process died: its orphaned SLURM jobs cancelled, its lock lifted, the same command run again."""

import fcntl
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

from tvts.config import UserError

ALIVE = Path(".snakemake/main")
"""Locked by the main process as long as it lives, however it ends."""
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


def recover(folder: Path, command: list[str]) -> int:
    """Cancel the SLURM jobs that a dead main process left in `folder`, then unlock and run `command`; returns its exit status.

    Raises UserError when the main process is still alive.
    """
    held = hold(folder)
    if held is None:
        raise UserError(
            f"{folder}: a workflow is running here, on {(folder / ALIVE).read_text()}; stop it there first (Ctrl-C)"
        )
    with held:
        cancel(folder)
    if not command:
        return 0
    unlocked = subprocess.run([*command, "--unlock"], cwd=folder, check=False)
    return unlocked.returncode or subprocess.run(command, cwd=folder, check=False).returncode


def cancel(folder: Path) -> None:
    """Cancel this user's SLURM jobs that work in `folder`, and wait until they are gone, so that nothing writes there any more."""
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
    """Ids of this user's SLURM jobs whose working directory is `folder`."""
    try:
        listed = subprocess.run(["squeue", "--me", "-h", "-o", "%A %Z"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise UserError("squeue: not found; run this where you submit SLURM jobs") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"squeue failed, so nothing was done: {error.stderr.strip()}") from None
    pairs = (line.partition(" ") for line in listed.stdout.splitlines())
    return sorted({job for job, _, where in pairs if Path(where).resolve() == folder.resolve()})
