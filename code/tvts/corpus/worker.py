"""Processes in which untrusted videos are handled, so that a hang, a crash or a memory bomb costs one video and not the job.

A worker is started once and answers one request after another (JSON lines on its pipes). `download` talks to the network and never
looks into a file; `cut` and `look` look into files, where the system lets it without any network. All have limited memory. A worker that
does not answer in time is killed with all it started; the next request starts a fresh one.
"""

import contextlib
import ctypes
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Literal

from tvts.config import UserError
from tvts.corpus.status import FULL_DISK, Failure, one_line

Kind = Literal["download", "cut", "look"]
MEMORY_BYTES: dict[Kind, int] = {"download": 1 << 30, "cut": 2 << 30, "look": 4 << 30}
"""What a worker may have. To cut H.264 of the largest size (4096 x 4096, 16 reference frames) took 0.6 GiB, 0.8 of addresses."""
READY = b"{}\n"
"""What a worker says once its libraries are loaded."""
START_SECONDS = 300.0
"""A worker that has not loaded its libraries by then never will."""
PR_SET_PDEATHSIG, CLONE_NEWUSER, CLONE_NEWNET = 1, 0x10000000, 0x40000000


class Worker:
    """The parent's end. Use as a context manager."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> subprocess.Popen[bytes]:
        """The worker's process, ready for requests. Raises UserError if none can start here."""
        if self._process is not None:
            return self._process
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, self.kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            _read_line(self._process.stdout.fileno(), time.monotonic() + START_SECONDS)
        except (EOFError, TimeoutError):
            self.kill()
            code, last = self._end(self._process)
            raise UserError(
                f"{self.kind} worker cannot run here: it ended with code {code} before it began: {last}"
            ) from None
        except BaseException:
            self.close()
            raise
        return self._process

    def call(self, request: dict[str, Any], seconds: float) -> Any:
        """The worker's answer.

        Raises the Failure it reports, Failure(`timeout`) after `seconds`, Failure(`corrupt`) if it crashes, Failure(`transient`) if it is
        killed from outside, and UserError if the disk is full or no worker can start here: no video's fault.
        """
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(_read_line(process.stdout.fileno(), time.monotonic() + seconds))
        except TimeoutError:
            self.close()
            raise Failure("timeout", f"{self.kind}: no result within {seconds:.0f} s") from None
        except (EOFError, BrokenPipeError):
            raise self._crash(process) from None
        except BaseException:
            self.close()
            raise
        if "stop" in answer:
            raise UserError(answer["stop"])
        if "status" in answer:
            raise Failure(answer["status"], answer["message"])
        return answer["result"]

    def kill(self) -> None:
        """End the worker and whatever it started; from any thread. A call under way raises Failure."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the worker and free what it held; the next call starts another."""
        self.kill()
        if self._process is not None:
            self._process.communicate()
            self._process = None
            self._errors.close()

    def _end(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Exit code and last words of a worker that is gone."""
        code = process.wait()
        self._errors.seek(0)
        last = one_line((self._errors.read().decode(errors="replace").strip().splitlines() or [""])[-1])
        self.close()
        return code, last

    def _crash(self, process: subprocess.Popen[bytes]) -> Failure:
        code, last = self._end(process)
        if code == -signal.SIGKILL:
            return Failure("transient", f"{self.kind} worker was killed from outside (short of memory?)")
        if code < 0:
            return Failure("corrupt", f"{self.kind} crashed on it ({signal.Signals(-code).name}) {last}")
        return Failure("internal", f"{self.kind} worker ended with code {code}: {last}")


def _read_line(descriptor: int, deadline: float) -> bytes:
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not data.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.read(descriptor, 1 << 16)
            if not part:
                raise EOFError
            data += part
    return data


def serve(kind: Kind) -> None:
    """The worker's end: answer requests until the pipe closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _restrict(kind)
    handle: Callable[[dict[str, Any]], Any]
    if kind == "download":
        from tvts.corpus.download import download as handle
    elif kind == "look":
        from tvts.corpus.look import look as handle
    else:
        from tvts.corpus.cut import cut as handle
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_answer(handle, json.loads(line))).encode() + b"\n")
        answers.flush()


def _answer(handle: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": handle(request)}
    except Failure as failure:
        return {"status": failure.status, "message": failure.message}
    except OSError as error:
        if error.errno in FULL_DISK:
            return {"stop": f"{error.strerror}: free some space where the clips are written, then run the job again"}
        return {"status": "internal", "message": f"{type(error).__name__}: {error}"}
    except MemoryError:
        return {"status": "skipped_rule", "message": "needs more memory than one video may have"}
    except Exception as error:
        return {"status": "internal", "message": f"{type(error).__name__}: {error}"}


def _restrict(kind: Kind) -> None:
    """Die with the parent, leave no core file, stay within a memory limit; a worker that looks into files loses the network if it may.

    Of a download worker only what it uses counts: the JavaScript engines that yt-dlp starts reserve far more addresses than that.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if kind != "download":
            libc.unshare(CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER)
    limit = resource.RLIMIT_DATA if kind == "download" else resource.RLIMIT_AS
    resource.setrlimit(limit, (MEMORY_BYTES[kind], MEMORY_BYTES[kind]))


if __name__ == "__main__":
    serve(sys.argv[1])  # type: ignore[arg-type]
