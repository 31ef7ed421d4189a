"""The append-only metrics file of a run, and its live line. The file is the truth that MLflow and the figures read."""

import json
import sys
import time
from pathlib import Path
from typing import Any


class Metrics:
    """Appends records {step, time, ...} to a JSON-lines file; cut back to the checkpoint's step when a run continues."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [record for record in read_metrics(path) if record["step"] <= step] if path.exists() else []
        path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def append(self, step: int, **values: Any) -> None:
        """Add one record."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")


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
