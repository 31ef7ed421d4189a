"""What a training measures: means over steps, the append-only metrics file that MLflow and the figures read, and the live line."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvts.files import atomic
from tvts.train.distributed import Process, everyone


class Metrics:
    """Appends records {step, time, ...} to a JSON-lines file; cut back to the checkpoint's step when a run continues."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [record for record in read_metrics(path) if record["step"] <= step] if path.exists() else []
        with atomic(path) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def append(self, step: int, **values: Any) -> None:
        """Add one record."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")


class Meter:
    """Sums of device values, and of time, since the last record. Nothing here waits for the device but `read` and `state`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.clips, self.waited, self.since = 0, 0.0, time.perf_counter()

    def add(self, values: Mapping[str, Tensor], clips: int) -> None:
        """Count a step that took `clips` of this process."""
        self.clips += clips * self.process.world
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means over steps and processes since the last reading, clips per second, and the share of time spent waiting for data."""
        means = {name: every.double().mean().item() / self.counts[name] for name, every in self.state()["sums"].items()}
        seconds = time.perf_counter() - self.since
        timing = {"clips_per_second": self.clips / seconds, "data_wait": self.waited / seconds}
        self.sums, self.counts = {}, {}
        self.clips, self.waited, self.since = 0, 0.0, time.perf_counter()
        return means | timing

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count as training."""
        began = time.perf_counter()
        yield
        self.since += time.perf_counter() - began

    def state(self) -> dict[str, Any]:
        """Every process's sums [processes] and the counts: part of a checkpoint, so that a continued run writes the same records."""
        if not self.sums:
            return {"sums": {}, "counts": {}}
        every = everyone(self.process, torch.stack([value.float() for value in self.sums.values()])).T.cpu()
        return {"sums": dict(zip(self.sums, every, strict=True)), "counts": dict(self.counts)}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a saved state; on another number of processes each begins with the mean."""
        self.counts = dict(state["counts"])
        for name, every in state["sums"].items():
            mine = every[self.process.rank] if len(every) == self.process.world else every.mean()
            self.sums[name] = mine.to(self.process.device)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole records of a metrics file; a last line cut off by a kill is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def show(line: str, last: bool = False) -> None:
    """One live line on a terminal, plain lines in a log."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="\n" if last else "", flush=True)
    else:
        print(line, flush=True)
