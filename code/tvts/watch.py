"""Run a workflow and show what its jobs are doing: overall progress, and the last line of each log that is being written.

On a terminal the view is redrawn in place; elsewhere it is a plain line now and then.
"""

import contextlib
import glob
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

STEPS = re.compile(r"(\d+) of (\d+) steps \(\d+%\) done")
ACTIVE_SECONDS = 20.0
PLAIN_SECONDS = 15.0


class Watched:
    """A running command, its output kept in a file, its progress read from there."""

    def __init__(self, command: list[str], output: Path) -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.began = time.time()
        self.done, self.total = 0, 0
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with open(self.output, "w", encoding="utf-8") as file:
            for line in self.process.stdout:
                file.write(line)
                file.flush()
                if found := STEPS.search(line):
                    self.done, self.total = int(found[1]), int(found[2])

    def headline(self) -> str:
        """Steps done and time spent."""
        minutes, seconds = divmod(int(time.time() - self.began), 60)
        steps = f"{self.done} of {self.total} steps" if self.total else "starting"
        return f"{steps}, {minutes}:{seconds:02d}"

    def active(self, logs: Path) -> list[tuple[str, str]]:
        """(log, last line) of the logs written to since a moment ago."""
        recent = time.time() - ACTIVE_SECONDS
        lines = {}
        for name in glob.glob("**/*.log", root_dir=logs, recursive=True):
            with contextlib.suppress(FileNotFoundError):  # logs of jobs on a cluster go when they succeed
                if logs / name != self.output and (logs / name).stat().st_mtime > recent:
                    lines[name.removesuffix(".log")] = last_line(logs / name)
        return [(name, line) for name, line in sorted(lines.items()) if line]


def last_line(path: Path) -> str:
    """The last line that says something, as a terminal would show it."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "")


def watch(command: list[str], logs: Path) -> int:
    """Run `command`, show the progress of the jobs that write to `logs`, and return its exit status."""
    console = Console()
    watched = Watched(command, logs / "snakemake.log")
    signal.signal(signal.SIGTERM, lambda *_: watched.process.terminate())
    try:
        _live(console, watched, logs) if console.is_terminal else _plain(watched, logs)
    except KeyboardInterrupt:
        print("\nstopping: finished work is kept, the same command continues", file=sys.stderr)
        watched.process.wait()
        return 130
    watched.reader.join()
    status = watched.process.returncode
    print(
        watched.headline()
        if status == 0
        else f"failed after {watched.headline()}; the whole story is in {watched.output}"
    )
    if status:
        print("".join(watched.output.read_text(encoding="utf-8").splitlines(keepends=True)[-40:]), file=sys.stderr)
    return status


def _live(console: Console, watched: Watched, logs: Path) -> None:
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        while watched.process.poll() is None:
            live.update(_view(console, watched, logs))
            time.sleep(0.5)


def _view(console: Console, watched: Watched, logs: Path) -> Table:
    view = Table.grid(padding=(0, 2))
    view.add_row(Text(watched.headline(), "bold"))
    for name, line in watched.active(logs)[: console.height - 4]:
        view.add_row(Text(name, "cyan"), Text(line[: console.width]))
    return view


def _plain(watched: Watched, logs: Path) -> None:
    while True:
        try:
            watched.process.wait(PLAIN_SECONDS)
            return
        except subprocess.TimeoutExpired:
            doing = "; ".join(f"{name}: {line}" for name, line in watched.active(logs)[:4])
            print(f"{watched.headline()}  {doing}", flush=True)
