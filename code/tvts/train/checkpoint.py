"""Checkpoints of a run: atomic, verified on load, the last few kept, written by one trainer at a time."""

import collections
import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from tvts.config import UserError
from tvts.files import atomic, read_json, sha256_file, write_json

Log = Callable[[str], None]


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this trainer, rid of what a killed one left half-written.

    Raises UserError when another one has it: two trainers would ruin each other's run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder}: another trainer is writing here ({file.read().strip()}); stop it first"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        for half_written in [*folder.glob(".step-*"), *folder.glob(".best-*")]:
            shutil.rmtree(half_written)
        yield


class Writer:
    """Writes files in the background, one after another. Training waits only when two jobs are still to be done."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.jobs: collections.deque[Future[None]] = collections.deque()

    def write(self, job: Callable[[], None]) -> None:
        """Do `job` when those before it are done. Raises what an earlier one raised."""
        self.finish(leaving=1)
        self.jobs.append(self.thread.submit(job))

    def finish(self, leaving: int = 0) -> None:
        """Wait until at most `leaving` jobs are left. Raises what one raised."""
        while len(self.jobs) > leaving:
            self.jobs.popleft().result()


def save(folder: Path, step: int, state: dict[str, Any], facts: dict[str, Any], keep: int) -> None:
    """Write the checkpoint of `step`: the weights first, then the small JSON with their hash that makes them count."""
    weights = folder / f"step-{step:08d}.pt"
    with atomic(weights) as temporary:
        torch.save(state, temporary)
        digest = sha256_file(temporary)
    write_json(weights.with_suffix(".json"), facts | {"step": step, "sha256": digest})
    for path in sorted(folder.glob("step-*.json"))[:-keep]:
        path.unlink()
        path.with_suffix(".pt").unlink(missing_ok=True)


def find_latest(folder: Path, settings: dict[str, Any], log: Log) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged checkpoint as (file for `read_state`, facts), or None. A damaged one is named and passed over.

    A finished training of other `settings` is set aside. Raises UserError with the differing keys when an unfinished one
    is there: it is never continued with other settings, and hours of work are not put away unasked.
    """
    for path in sorted(folder.glob("step-*.json"), reverse=True):
        facts = read_json(path)
        weights = path.with_suffix(".pt")
        if not weights.exists() or sha256_file(weights) != facts["sha256"]:
            log(f"checkpoint {weights} is damaged (its hash differs); using the one before")
            for part in (path, weights):  # out of the way of those that count
                if part.exists():
                    part.rename(folder / f"damaged-{part.name}")
            continue
        if differing := "; ".join(_differing(facts["settings"], settings)):
            if not facts["finished"]:
                raise UserError(
                    f"{folder}: holds step {facts['step']} of an unfinished training with other settings ({differing}); "
                    f"put them back to continue it, or move that folder away to train anew"
                )
            aside = folder / f"before-{facts['sha256'][:12]}"
            log(f"{folder}: finished with other settings ({differing}); set aside in {aside.name}, training anew")
            _set_aside(folder, aside)
            return None
        return weights, facts
    return None


def read_state(weights: Path) -> dict[str, Any]:
    """The state in a checkpoint, mapped: processes of one machine share its memory."""
    return torch.load(weights, map_location="cpu", weights_only=True, mmap=True)


def _set_aside(folder: Path, aside: Path) -> None:
    aside.mkdir(exist_ok=True)
    for path in [*folder.glob("step-*"), *folder.glob("best-*"), *folder.glob("metrics.jsonl")]:
        path.rename(aside / path.name)


def _differing(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differing(before.get(key), now.get(key), f"{path}.{key}".strip("."))
    elif before != now:
        yield f"{path}: {before!r} then, {now!r} now"
