"""Checkpoints of a run: atomic, verified on load, the last few kept, written by one trainer at a time."""

import contextlib
import fcntl
import hashlib
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tvts.config import UserError
from tvts.files import atomic, read_json, write_json

Log = Callable[[str], None]


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this trainer. Raises UserError when another one has it: two trainers would ruin each other's run."""
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
        yield


def save(folder: Path, step: int, state: dict[str, Any], facts: dict[str, Any], keep: int) -> None:
    """Write the checkpoint of `step`: the weights first, then the small JSON with their hash that makes them count."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    with atomic(folder / f"step-{step:08d}.pt") as temporary:
        temporary.write_bytes(content)
    write_json(
        folder / f"step-{step:08d}.json",
        facts | {"step": step, "sha256": hashlib.sha256(content).hexdigest()},
    )
    for path in sorted(folder.glob("step-*.json"))[:-keep]:
        path.unlink()
        path.with_suffix(".pt").unlink(missing_ok=True)


def load_latest(folder: Path, settings: dict[str, Any], log: Log) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The newest undamaged checkpoint as (state, facts), or None. A damaged one is named and passed over.

    When it was made with other `settings`, the differing keys are told and all that lies there is set aside.
    """
    for path in sorted(folder.glob("step-*.json"), reverse=True):
        facts = read_json(path)
        weights = path.with_suffix(".pt")
        content = weights.read_bytes() if weights.exists() else b""
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            log(f"checkpoint {weights} is damaged (its hash differs); using the one before")
            continue
        if differing := list(_differing(facts["settings"], settings)):
            aside = folder / f"before-{facts['sha256'][:12]}"
            log(
                f"{folder}: made with other settings ({'; '.join(differing)}); set aside in {aside.name}, training anew"
            )
            _set_aside(folder, aside)
            return None
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), facts
    return None


def _set_aside(folder: Path, aside: Path) -> None:
    aside.mkdir(exist_ok=True)
    for path in [*folder.glob("step-*"), *folder.glob("metrics.jsonl")]:
        path.rename(aside / path.name)


def _differing(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differing(before.get(key), now.get(key), f"{path}.{key}".strip("."))
    elif before != now:
        yield f"{path}: {before!r} then, {now!r} now"
