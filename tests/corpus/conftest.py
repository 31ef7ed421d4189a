"""Small real videos, made by PyAV, whose frames show their own number, so that tests can tell which moment a picture is from."""

import functools
import http.server
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from tvts.config import Fetch
from tvts.corpus import fetch
from tvts.corpus.fetch import Source, fetch_shard
from tvts.corpus.shards import PLAN_SCHEMA, read_index
from tvts.corpus.status import STATUSES
from tvts.files import read_json

BITS = 12
TONE_HZ = 440


def numbered(number: int, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """uint8 RGB [H, W, 3]: 12 vertical bars, white for the ones of `number` (lowest bit first), over a colour that moves."""
    width, height = size
    bars = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    row = bars[np.arange(width) * BITS // width]
    picture = np.repeat(np.repeat(row[None, :, None], height, 0), 3, 2)
    picture[: height // 8] = [number * 5 % 256, 255 - number * 3 % 256, 128]
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that a picture made by `numbered` shows, at any size."""
    height, width = picture.shape[:2]
    line = picture[height // 4 : height * 3 // 4].mean(axis=(0, 2))
    return sum(int(line[int((bit + 0.5) * width / BITS)] > 127) << bit for bit in range(BITS))


def write_clip(
    path: Path,
    seconds: float = 4.0,
    fps: int = 24,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    audio: str | None = "aac",
    times: Sequence[float] | None = None,
    rotation: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    muxing: dict[str, str] | None = None,
    first: float = 0.0,
) -> Path:
    """Encode frames 0, 1, 2, ... (constant rate, or at `times` in seconds), and a 440 Hz tone of the same length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tick = Fraction(1, 1000) if times is not None else Fraction(1, fps)
    stamps = [round(time * 1000) for time in times] if times is not None else list(range(round(seconds * fps)))
    with av.open(str(path), "w", options=muxing or {}) as container:
        video = container.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height, video.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.time_base = tick
        if rotation:
            video.set_display_rotation(rotation)
        if sample_aspect_ratio:
            video.codec_context.sample_aspect_ratio = sample_aspect_ratio
        sound = container.add_stream(audio, rate=32_000, layout="stereo") if audio else None
        if sound is not None:
            _write_tone(container, sound, seconds if times is None else times[-1], first)
        for number, stamp in enumerate(stamps):
            frame = VideoFrame.from_ndarray(numbered(number, size), format="rgb24")
            frame.pts, frame.time_base = stamp + round(first / tick), tick
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def _write_tone(container: Any, stream: Any, seconds: float, first: float) -> None:
    samples = 0.3 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(seconds * 32_000)) / 32_000)
    for at in range(0, len(samples), 1024):
        part = np.repeat(samples[None, at : at + 1024], 2, 0).astype(np.float32)
        frame = AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 32_000, at + round(first * 32_000), Fraction(1, 32_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """SVT-AV1, which writes AV1 here, makes its process a real-time one where it may: all started later would starve the rest."""
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4 s mp4 as phones make them: 96 x 64, 24 fps, B-frames, one keyframe, stereo sound, index at the end."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


Reply = Callable[[http.server.BaseHTTPRequestHandler], None]


class Site:
    """A web server on the loopback device: `replies[path]` answers a GET or HEAD; `seen` lists what was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.replies: dict[str, Reply] = {}
        self.seen: list[str] = []

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def reply(
    body: bytes, status: int = 200, content_type: str = "video/mp4", length: int | None = None, **headers: str
) -> Reply:
    """A whole answer; `length` lies about the body's length."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)

    return answer


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args: Any) -> None:
        self.site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        self.site.seen.append(self.path)
        self.site.replies.get(self.path, reply(b"gone", 404, "text/plain"))(self)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: None)  # type: ignore[arg-type, return-value]
    found = Site(server.server_address[1])
    server.RequestHandlerClass = functools.partial(_Handler, found)  # type: ignore[assignment]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


# --- shards ------------------------------------------------------------------------------------------------------------

SETTINGS = Fetch.model_validate(
    {"short_side": 32, "fps": 6.0, "spans": {"per_video": 2, "seconds": 1.5}, "allow_private_hosts": True}
)

Row = dict[str, Any]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses worth waiting for between attempts."""
    monkeypatch.setattr(fetch, "BACKOFF_SECONDS", 0.01)


def make_plan(path: Path, videos: list[Row]) -> Path:
    """A plan of one shard; `videos` have id and url or path, perhaps a caption."""
    rows = [
        {"url": None, "path": None, "caption": None, "shard": 0, "key": f"{at:019d}", **video}
        for at, video in enumerate(videos)
    ]
    pq.write_table(pa.Table.from_pylist(rows, PLAN_SCHEMA), path)
    return path


def run(
    folder: Path, videos: list[Row], source: Source = "local", settings: Fetch = SETTINGS, **more: Any
) -> list[Row]:
    """Fetches `videos` as a shard, and sees that nothing is left but what should be."""
    make_plan(folder / "plan.parquet", videos)
    rows = fetch_planned(folder, source, settings, **more)
    assert_tidy(folder)
    return rows


def fetch_planned(folder: Path, source: Source = "local", settings: Fetch = SETTINGS, **more: Any) -> list[Row]:
    fetch_shard(
        folder / "plan.parquet",
        0,
        source,
        settings,
        3,
        folder / "clips" / "0.tar",
        folder / "clips" / "0.parquet",
        **{"log": lambda _: None, **more},
    )
    rows: list[Row] = read_index(folder / "clips" / "0.parquet").to_pylist()
    assert {row["status"] for row in rows} <= set(STATUSES)
    return rows


def assert_tidy(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "clips").iterdir())
    assert names == [".0", "0.parquet", "0.tar", "0_stats.json"]
    assert sorted(path.name for path in (folder / "clips" / ".0").iterdir()) == [
        "settings",
        "shard.parquet",
        "shard.tar",
    ]


def stats(folder: Path) -> Row:
    """What `run` left beside the shard."""
    found: Row = read_json(folder / "clips" / "0_stats.json")
    return found


def by_id(rows: list[Row]) -> dict[str, str]:
    return {row["id"]: row["status"] for row in rows if row["span"] == 0}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good videos of different kinds and three bad ones."""
    folder = tmp_path_factory.mktemp("sources")
    write_clip(folder / "long.mp4", seconds=6)
    write_clip(folder / "short.mp4", seconds=1, audio=None)
    write_clip(folder / "tall.mkv", seconds=3, size=(64, 96))
    write_clip(folder / "uneven.mp4", times=[0, 0.2, 1.1, 1.3, 2.5], audio=None)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("hello " * 50)
    whole = (folder / "long.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


GOOD = ("long.mp4", "short.mp4", "tall.mkv", "uneven.mp4")
BAD = {"empty.mp4": "corrupt", "text.mp4": "corrupt", "cut.mp4": "corrupt", "absent.mp4": "removed"}


def videos_in(folder: Path, names: Any = (*GOOD, *BAD)) -> list[Row]:
    return [
        {"id": f"dir/{name}", "path": str(folder / name), "caption": f"a <b>{name}</b>" if name == "long.mp4" else None}
        for name in names
    ]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be forgotten does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
