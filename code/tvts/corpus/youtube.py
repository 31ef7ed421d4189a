"""Manners and needs when the source is YouTube: how often to ask, when to stop asking, what must be installed."""

import contextlib
import fcntl
import shutil
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from tvts.config import UserError

REFUSALS_IN_A_ROW = 5
"""After so many the site is asked no more: it would refuse the rest too."""
PAUSE_SECONDS = 1800.0
"""How long no job asks a site that refused: neither those beside the one it refused, nor those that try again."""
JS_RUNTIMES = ("deno", "node", "bun", "quickjs")
"""yt-dlp needs one of these, and its scripts, to read YouTube's player."""


def check_tools() -> None:
    """Raise UserError if yt-dlp cannot work with YouTube on this machine."""
    if not any(shutil.which(name) for name in JS_RUNTIMES):
        raise UserError(
            f"source youtube: no JavaScript runtime found; install {' or '.join(JS_RUNTIMES)} where downloads run"
        )
    if find_spec("yt_dlp_ejs") is None:
        raise UserError("source youtube: the package yt-dlp-ejs is missing; install yt-dlp[default]")


class Turnstile:
    """Lets `per_hour` through, evenly, whichever process or machine asks. The file holds the time of the next free turn."""

    def __init__(self, path: Path, per_hour: float) -> None:
        self.path = path
        self.seconds = 3600 / per_hour

    def wait(self, stopping: threading.Event) -> None:
        """Take the next free turn and sleep until it comes, or until `stopping`."""
        with self._next() as (file, free):
            turn = max(time.time(), free)
            file.write(repr(turn + self.seconds))
        stopping.wait(max(0.0, turn - time.time()))

    def pause(self) -> None:
        """Give nobody a turn for `PAUSE_SECONDS`."""
        with self._next() as (file, free):
            file.write(repr(max(free, time.time() + PAUSE_SECONDS)))

    @contextlib.contextmanager
    def _next(self) -> Iterator[tuple[TextIO, float]]:
        """The file, locked and emptied, and the time of the next free turn that was in it."""
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            free = float(file.read() or 0)
            file.truncate(0)
            yield file, free
