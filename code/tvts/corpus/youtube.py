"""Manners and needs when the source is YouTube: how often to ask, when to stop asking, what must be installed."""

import fcntl
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

from tvts.config import UserError

REFUSALS_IN_A_ROW = 5
"""After so many the site is asked no more: it would refuse the rest too."""
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

    def wait(self) -> None:
        """Take the next free turn and sleep until it comes."""
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            turn = max(time.time(), float(file.read() or 0))
            file.truncate(0)
            file.write(repr(turn + self.seconds))
        time.sleep(max(0.0, turn - time.time()))
