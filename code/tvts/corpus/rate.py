"""A budget of requests to one site, shared by all jobs that see the same folder."""

import fcntl
import time
from pathlib import Path


class Turnstile:
    """Lets one through every `seconds`, whichever process or machine asks. The file holds the time of the next free turn."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds

    def wait(self) -> None:
        """Take the next free turn and sleep until it comes."""
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            turn = max(time.time(), float(file.read() or 0))
            file.truncate(0)
            file.write(repr(turn + self.seconds))
        time.sleep(max(0.0, turn - time.time()))
