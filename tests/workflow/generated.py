"""A corpus of several hundred small generated videos with faults of every kind among them, their captions, and a site that serves some."""

import csv
import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from tests.corpus.conftest import Site, reply

FPS, RATE, SIZE = 6, 16_000, (48, 32)
SPEECH = "so now we take the red one and turn it over then put some glue on this side and press it down"


def write_video(path: Path, seed: int, sound: bool = True, picture: bool = True) -> float:
    """A video of 5 to 9 s; returns its length in seconds. Equal seeds give equal pictures and sound."""
    draw = np.random.default_rng(seed)
    seconds = int(draw.integers(5, 10))
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"}) if picture else None
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        if video:
            video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
            for _ in range(seconds * FPS):
                blocks = draw.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
                frame = VideoFrame.from_ndarray(blocks.repeat(8, 0).repeat(8, 1), format="rgb24")
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio:
            tone = 0.3 * np.sin(np.arange(seconds * RATE) * draw.uniform(0.05, 0.5)).astype(np.float32)
            for at in range(0, len(tone), 1024):
                part = AudioFrame.from_ndarray(tone[None, at : at + 1024], "fltp", "mono")
                part.sample_rate, part.pts, part.time_base = RATE, at, Fraction(1, RATE)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return float(seconds)


def write_still(path: Path, hours: float = 3.0) -> None:
    """One picture that is shown for hours."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for stamp in (0, round(hours * 3_600_000)):
            frame = VideoFrame.from_ndarray(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def write_captions(path: Path, seconds: float, seed: int) -> None:
    """A recognised track as YouTube gives it: a word every 0.4 s."""
    draw, words = random.Random(seed), SPEECH.split()
    segments = [{"utf8": f" {draw.choice(words)}", "tOffsetMs": 400 * n} for n in range(int(seconds / 0.4))]
    path.write_text(json.dumps({"events": [{"tStartMs": 100, "dDurationMs": 1000 * seconds, "segs": segments}]}))


FAULTS = {
    "empty": "corrupt", "text": "corrupt", "page": "corrupt", "playlist": "corrupt", "noise": "corrupt", "truncated": "corrupt",
    "sound": "corrupt", "still": "too_long", "absent": "removed", "folder": "removed",
}  # fmt: skip
"""Kinds of bad local files -> the status they end in."""


def write_fault(path: Path, kind: str, seed: int) -> None:
    content = {
        "empty": b"",
        "text": b"not a video " * 50,
        "page": b"<!DOCTYPE html><h1>403 Forbidden</h1>",
        "playlist": b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n",
        "noise": random.Random(seed).randbytes(5000),
    }
    if kind in content:
        path.write_bytes(content[kind])
    elif kind == "truncated":
        write_video(path, seed)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "sound":
        write_video(path, seed, picture=False)
    elif kind == "still":
        write_still(path)
    elif kind == "folder":
        path.mkdir()


def write_local(folder: Path, videos: int) -> dict[str, str]:
    """Videos, captions and `list.csv` in `folder` -> status expected of each id. One in eight is faulty; some lines are no videos."""
    (folder / "captions").mkdir(parents=True)
    expected, rows = {}, []
    for number in range(videos):
        id, kind = f"v{number:04d}", list(FAULTS)[number // 8 % len(FAULTS)] if number % 8 == 5 else "good"
        if kind == "good":
            twin = number - 1 if number % 40 == 39 else number  # the same upload under another id
            seconds = write_video(folder / f"{id}.mp4", twin, sound=number % 16 != 4)
            if number % 12 != 7:
                write_captions(folder / "captions" / f"{id}.en.json3", seconds, number)
        else:
            write_fault(folder / f"{id}.mp4", kind, number)
        expected[id] = FAULTS.get(kind, "ok")
        rows.append((id, f"{id}.mp4"))
    (folder / "captions" / "v0000.en.json3").write_text('{"events": [')
    rows += [
        ("v0000", "v0000.mp4"),
        ("../x", "x.mp4"),
        ("=cmd()", "x.mp4"),
        ("out", "../../etc/passwd"),
        ("a\x1b[2J", "x.mp4"),
    ]
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "path"), *rows])
    return expected


def serve(site: Site, folder: Path, videos: int) -> dict[str, str]:
    """Some videos and faults served by `site`, captions and `list.csv` in `folder` -> status expected of each id."""
    (folder / "captions").mkdir(parents=True)
    bad: dict[str, tuple[str, Any]] = {
        "gone": ("removed", reply(b"", 404)),
        "refused": ("blocked", reply(b"", 403)),
        "down": ("transient", reply(b"", 503)),
        "page": ("corrupt", reply(b"<html>login</html>", content_type="text/html")),
        "elsewhere": ("skipped_rule", reply(b"", 302, Location="file:///etc/passwd")),
        "short": ("transient", reply(b"abc", length=10_000)),
    }
    expected, rows = {}, []
    for number in range(videos):
        id = f"s{number:04d}"
        file = folder / f"{id}.mp4"
        seconds = write_video(file, 10_000 + number)
        site.replies[f"/{id}.mp4"] = reply(file.read_bytes())
        file.unlink()
        write_captions(folder / "captions" / f"{id}.en.json3", seconds, number)
        expected[id] = "ok"
        rows.append((id, site.url(f"/{id}.mp4")))
    for name, (status, answer) in bad.items():
        site.replies[f"/{name}.mp4"] = answer
        expected[name] = status
        rows.append((name, site.url(f"/{name}.mp4")))
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "url"), *rows])
    return expected
