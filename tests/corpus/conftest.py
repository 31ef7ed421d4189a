"""Small real videos, made by PyAV, whose frames show their own number, so that tests can tell which moment a picture is from."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

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
