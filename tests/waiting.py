"""Ports for servers that tests start, and waiting until those, or anything else, are ready."""

import contextlib
import socket
import time
import urllib.request
from collections.abc import Callable

LONGEST_WAIT_SECONDS = 600


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody uses at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(what: str, condition: Callable[[], bool], every: float = 0.2) -> None:
    """Wait until `condition()` holds; fail with `what` was awaited. It takes seconds; the limit is for what hangs."""
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited {LONGEST_WAIT_SECONDS} s for {what}"
        time.sleep(every)


def answers(address: str) -> bool:
    """Whether an MLflow server is up."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
