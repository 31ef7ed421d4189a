"""Worker processes: what hangs, crashes or ends costs one request, and nothing they start survives them."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.corpus.conftest import Site, alive, reply, write_clip

from tvts.config import Fetch, UserError
from tvts.config.schema import Jobs
from tvts.corpus import worker
from tvts.corpus.status import Failure
from tvts.corpus.worker import Worker


def request(video: Path, folder: Path) -> dict[str, Any]:
    settings = Fetch(short_side=32, fps=6.0).model_dump(mode="json")
    return {
        "id": "a",
        "video": str(video),
        "audio": None,
        "settings": settings,
        "seed": 0,
        "stem": str(folder / "0001"),
    }


@pytest.fixture
def cutter() -> Iterator[Worker]:
    with Worker("cut") as found:
        yield found


def test_a_worker_answers_again_and_again_from_one_process(cutter: Worker, clip: Path, tmp_path: Path) -> None:
    first = cutter.call(request(clip, tmp_path), 30)
    pid = cutter._process and cutter._process.pid
    with pytest.raises(Failure, match="removed: no such file"):
        cutter.call(request(tmp_path / "absent.mp4", tmp_path), 30)
    assert cutter.call(request(clip, tmp_path), 30) == first
    assert cutter._process and cutter._process.pid == pid
    assert first[0]["status"] == "ok"
    assert (tmp_path / first[0]["file"]).stat().st_size == first[0]["size"]


def test_a_hang_is_a_timeout_and_the_next_request_is_served(cutter: Worker, clip: Path, tmp_path: Path) -> None:
    cutter.call(request(clip, tmp_path), 30)
    assert cutter._process
    pid = cutter._process.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Failure, match="timeout: cut: no result within 0 s"):
        cutter.call(request(clip, tmp_path), 0.3)
    assert not alive(pid)
    assert cutter.call(request(clip, tmp_path), 30)[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("sent", "said"),
    [(signal.SIGSEGV, r"corrupt: cut crashed on it \(SIGSEGV\)"), (signal.SIGKILL, "transient: cut worker was killed")],
    ids=["by the video", "from outside"],
)
def test_a_crash_is_a_failure_and_the_next_request_is_served(
    cutter: Worker, clip: Path, tmp_path: Path, sent: signal.Signals, said: str
) -> None:
    cutter.call(request(clip, tmp_path), 30)
    assert cutter._process
    os.kill(cutter._process.pid, sent)
    with pytest.raises(Failure, match=said):
        cutter.call(request(clip, tmp_path), 30)
    assert cutter.call(request(clip, tmp_path), 30)[0]["status"] == "ok"


def test_a_worker_that_cannot_start_ends_the_job_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "__name__", "tvts.corpus.absent")
    with (
        Worker("cut") as broken,
        pytest.raises(UserError, match=r"cut worker cannot run here: .*code 1 .*No module named tvts.corpus.absent"),
    ):
        broken.call({}, 30)


@pytest.mark.parametrize(("kind", "limit"), [("cut", "Max address space"), ("download", "Max data size")])
def test_memory_is_limited(kind: worker.Kind, limit: str, tmp_path: Path) -> None:
    with Worker(kind) as limited:
        with pytest.raises(Failure):
            limited.call({**request(tmp_path / "absent", tmp_path), "url": "gopher://a"}, 30)
        assert limited._process
        limits = Path(f"/proc/{limited._process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith(limit))
    assert line.split()[3] == str(worker.MEMORY_BYTES[kind])


def test_the_memory_of_all_workers_fits_what_a_job_asks_for() -> None:
    """Each thread has a download worker and a cut worker."""
    asked = Jobs().download
    workers = asked.threads * (worker.MEMORY_BYTES["download"] + worker.MEMORY_BYTES["cut"])
    assert workers < asked.mem_mb * 2**20


def test_a_page_that_unpacks_to_more_than_memory_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 kB that become 25 MB, with as much less memory."""
    script = (
        "import sys\nfrom tvts.corpus import worker\n"
        "worker.MEMORY_BYTES['download'] = 80 << 20\nworker.serve(sys.argv[1])\n"
    )
    (tmp_path / "small.py").write_text(script)
    monkeypatch.setattr(worker, "__name__", "small")
    monkeypatch.syspath_prepend(str(tmp_path))
    packed = gzip.compress(b"<html>" + bytes(25 << 20))
    site.replies["/bomb"] = reply(packed, content_type="text/html", **{"Content-Encoding": "gzip"})
    settings = Fetch(allow_private_hosts=True).model_dump(mode="json")
    asked = {"url": site.url("/bomb"), "source": "http", "folder": str(tmp_path), "settings": settings}
    with Worker("download") as downloader, pytest.raises(Failure, match="skipped_rule: needs more memory"):
        downloader.call(asked, 30)


def test_workers_die_with_a_killed_parent(clip: Path, tmp_path: Path) -> None:
    script = (
        "import json, sys, time\nfrom tvts.corpus.worker import Worker\nworker = Worker('cut')\n"
        "worker.call(json.loads(sys.argv[1]), 30)\nprint(worker._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [sys.executable, "-c", script, json.dumps(request(clip, tmp_path))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def test_noise_on_standard_output_does_not_disturb(tmp_path: Path) -> None:
    """Native libraries print; the answers have a channel of their own."""
    source = write_clip(tmp_path / "a.mp4", seconds=0.5, audio=None)
    script = (
        "import json, sys\nfrom tvts.corpus import cut, worker\nreal = cut.cut\n"
        "def noisy(request):\n    print('{\"result\": 1}', flush=True)\n    return real(request)\n"
        "cut.cut = noisy\nworker.serve('cut')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(request(source, tmp_path)).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
    )
    ready, answer = done.stdout.splitlines(keepends=True)
    assert ready == worker.READY
    assert json.loads(answer)["result"][0]["status"] == "ok"


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Failure("geo", "not here"), {"status": "geo", "message": "not here"}),
        (MemoryError(), {"status": "skipped_rule", "message": "needs more memory than one video may have"}),
        (ZeroDivisionError("by\nzero"), {"status": "internal", "message": "ZeroDivisionError: by\nzero"}),
        (OSError(errno.EIO, "I/O error"), {"status": "internal", "message": "OSError: [Errno 5] I/O error"}),
    ],
)
def test_errors_become_failures(error: Exception, answer: dict[str, str]) -> None:
    def handle(_: dict[str, Any]) -> None:
        raise error

    assert worker._answer(handle, {}) == answer


def test_a_full_disk_ends_the_job(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "0001_00000.mp4").symlink_to("/dev/full")
    with Worker("cut") as cutter, pytest.raises(UserError, match="No space left on device: free some space"):
        cutter.call(request(clip, tmp_path), 30)


def test_equal_failures_have_equal_messages() -> None:
    """Addresses in memory differ from run to run; the index must not."""
    said = "<HTTPConnection(host='a') at 0x7f1c2ab0>: Failed; [h264 @ 0x55d0a1] bad"
    assert Failure("transient", said).message == "<HTTPConnection(host='a')>: Failed; [h264] bad"
