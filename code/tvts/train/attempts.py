"""Attempts at a training, on record beside its checkpoints however they end, and the way back into SLURM's queue."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvts.config.schema import Run
from tvts.files import read_json, write_json

HEARTBEAT_SECONDS = 20.0
ENDED_SECONDS = 60.0
"""How long a job that was put back into the queue waits for SLURM to end it."""


def newest(folder: Path) -> str | None:
    """Name of the newest checkpoint in `folder`."""
    return max((path.name for path in folder.glob("step-*")), default=None)


@contextlib.contextmanager
def attempt(folder: Path, run: Run, processes: int, minutes: float | None) -> Iterator[None]:
    """Keep `folder`/attempts/{began}.json up to date while the block runs, so that a kill leaves its record too.

    It holds `began` (s since 1970), `seconds`, `minutes` allowed, `processes`, `gpus`, `host`, `job`, `nodes`, and the newest
    checkpoint `before` and `after`. Says so when the attempt before spent its time without reaching a checkpoint.
    """
    before = attempts(folder)
    if before and _spent_in_vain(before[-1]):
        print(
            f"the attempt before ran {before[-1]['seconds']:.0f} s of its {before[-1]['minutes']:g} min and reached no checkpoint: "
            f"raise launch.minutes (now {run.launch.minutes}) or lower train.checkpoint_minutes",
            flush=True,
        )
    began = time.time()
    facts = {
        "began": began,
        "minutes": minutes,
        "processes": processes,
        "gpus": run.launch.gpus * run.launch.nodes,
        "host": socket.gethostname(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "nodes": os.environ.get("SLURM_JOB_NODELIST"),
        "before": newest(folder),
    }
    path, over = folder / "attempts" / f"{began:.0f}.json", threading.Event()

    def record() -> None:
        write_json(path, facts | {"seconds": time.time() - began, "after": newest(folder)})

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            record()

    record()
    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        record()


def attempts(folder: Path) -> list[dict[str, Any]]:
    """Records of all attempts at a training, the oldest first."""
    return [read_json(path) for path in sorted(folder.glob("attempts/*.json"))]


def _spent_in_vain(record: dict[str, Any]) -> bool:
    return bool(
        record["minutes"] and record["seconds"] > 0.7 * 60 * record["minutes"] and record["before"] == record["after"]
    )


def continue_in_queue(folder: Path, leads: bool) -> None:
    """After a stop with progress: put the SLURM job named by `TVTS_REQUEUE` back into the queue, and wait to be ended by that.

    Returns when there is none, when it is being cancelled, or when the cluster refuses: then a failed job must be retried.
    """
    job = os.environ.get("TVTS_REQUEUE")
    if not job:
        return
    if leads:
        last = attempts(folder)[-1]
        state = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False).stdout
        if last["before"] == newest(folder) or "JobState=RUNNING" not in state:
            return
        asked = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        if asked.returncode:
            print(f"SLURM does not take job {job} back into the queue: {asked.stderr.strip()}", flush=True)
            return
        print(f"job {job} is back in the queue and will continue", flush=True)
    time.sleep(ENDED_SECONDS)


def summary(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Attempts summed up: `attempts`, `slurm_jobs`, `nodes`, `seconds`, `gpu_hours`, `process_hours`."""
    return {
        "attempts": len(facts),
        "slurm_jobs": _each(record["job"] for record in facts),
        "nodes": _each(record["nodes"] or record["host"] for record in facts),
        "seconds": sum(record["seconds"] for record in facts),
        "gpu_hours": sum(record["seconds"] * record["gpus"] for record in facts) / 3600,
        "process_hours": sum(record["seconds"] * record["processes"] for record in facts) / 3600,
    }


def _each(values: Iterator[str | None]) -> str | None:
    return " ".join(dict.fromkeys(value for value in values if value)) or None
