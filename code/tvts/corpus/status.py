"""What can become of a video, and the exception that says so. Imports nothing: every worker process loads it first."""

import errno
import re
from typing import Literal, get_args

Status = Literal[
    "ok", "skipped_rule", "removed", "private", "age", "geo", "live", "too_long", "no_audio", "transient", "blocked",
    "corrupt", "unsupported_codec", "timeout", "internal",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)
RETRYABLE: frozenset[Status] = frozenset({"transient", "blocked"})
"""Failures that may pass soon: tried again within the job."""
PASSING: frozenset[Status] = RETRYABLE | {"timeout", "internal"}
"""Failures that may have passed by the next job (`internal`: mended, or a yt-dlp that has grown old was replaced): tried again when the
shard is continued or made again.
"""

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that are no video's fault: they end the job, so that no row blames a video."""


class Failure(Exception):
    """One video or clip cannot be used: `status` is the kind, `message` one line for people. Becomes a row, never fails a job."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = one_line(message)

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


_ADDRESS = re.compile(r" (at|@) 0x[0-9a-f]+")


def one_line(text: str, limit: int = 300) -> str:
    """`text` without control characters and line breaks (it may come from a hostile file or server), at most `limit` characters.

    Addresses in memory, which differ each time, are left out too: equal failures have equal messages.
    """
    text = _ADDRESS.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]
