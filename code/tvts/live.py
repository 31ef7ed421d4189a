"""A training's metrics on an MLflow server while it runs. Errors are swallowed and counted: the metrics file is the truth, and
`tvts track` completes what was missed."""

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

# the follower itself tries again, and looks first for what it has made
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.exceptions import MlflowException

from tvts.config.resolve import read_run
from tvts.config.schema import Tracking
from tvts.corpus.dataset import data_hash
from tvts.tracking import Store, as_metrics, training_key, training_tags

POLL_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
FAREWELL_SECONDS = 10.0


class Follower:
    """Sends what is new in a metrics file to a server."""

    def __init__(self, config: Path, cards: list[Path], metrics: Path, tracking: Tracking) -> None:
        self.name, self.run, self.data_sha256 = config.parent.name, read_run(config), data_hash(cards)
        self.metrics, self.tracking, self.results = metrics, tracking, config.parents[2]
        self.store: Store | None = None
        self.run_id = ""
        self.read = 0
        self.sent, self.errors = 0, 0

    def send(self) -> bool:
        """Send what is new; whether the server has all of it now."""
        try:
            store = self.store or self._connect()
            records, end = read_new(self.metrics, self.read)
            if records:
                store.log(self.run_id, as_metrics(records), {}, finished=False)
        except (MlflowException, OSError) as error:
            self.errors, self.store = self.errors + 1, None
            print(f"{time.strftime('%F %T')} {self.tracking.uri}: {str(error).splitlines()[0][:200]}", flush=True)
            return False
        self.read, self.sent = end, self.sent + len(records)
        return True

    def _connect(self) -> Store:
        """The store with this training's run. An import may have deleted the one before: another is sent everything."""
        store = Store(self.tracking, self.results)
        key = training_key(self.name, self.run, self.data_sha256)
        run_id = store.run(key, self.name, training_tags(self.name, self.run))
        if run_id != self.run_id:
            self.run_id, self.read = run_id, 0
        self.store = store
        return store

    def follow(self) -> None:
        """Until standard input is closed, as it is when the training ends in whatever way; then for a last few seconds."""
        pause = POLL_SECONDS
        while not select.select([sys.stdin], [], [], pause)[0]:
            pause = POLL_SECONDS if self.send() else min(2 * pause, LONGEST_PAUSE_SECONDS)
        end = time.monotonic() + FAREWELL_SECONDS
        while not (done := self.send()) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        rest = "all there is" if done else "`tvts track` sends the rest"
        print(f"{time.strftime('%F %T')} sent {self.sent} records, {self.errors} errors; {rest}", flush=True)


def read_new(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Whole records of a metrics file from byte `start` on, and where they end; all of them when the file has become shorter."""
    if not path.exists():
        return [], 0
    with open(path, "rb") as file:
        file.seek(start if start <= path.stat().st_size else 0)
        lines = file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            file.seek(-len(lines.pop()), os.SEEK_CUR)
        return [json.loads(line) for line in lines], file.tell()


def follow(config: Path, cards: list[Path], metrics: Path, tracking: Tracking) -> None:
    """Follow the metrics of the run in `config`, which is RESULTS/runs/RUN/config.json."""
    Follower(config, cards, metrics, tracking).follow()
