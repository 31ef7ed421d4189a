"""Files that are not what they say: each ends as its own kind of failure, or as a good clip, and never takes the process with it."""

import os
import random
import struct
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tests.corpus.conftest import by_id, run, write_clip
from tests.corpus.test_media import remux

from tvts.config import Fetch
from tvts.corpus.cut import cut
from tvts.corpus.media import container
from tvts.corpus.status import Failure

SETTINGS = {"short_side": 32, "fps": 6.0, "spans": {"per_video": 2, "seconds": 1.0}, "max_video_seconds": 600.0}


def cut_one(path: Path, **more: Any) -> list[dict[str, Any]]:
    """What the worker does with one file, in this process."""
    output = path.parent / "out"
    output.mkdir(exist_ok=True)
    settings = Fetch.model_validate(SETTINGS | more).model_dump(mode="json")
    try:
        return cut(
            {
                "id": "video",
                "video": str(path),
                "audio": None,
                "settings": settings,
                "seed": 0,
                "stem": str(output / "0001"),
            }
        )
    except Failure as failure:
        return [{"status": failure.status, "message": failure.message}]


def share(source: Path, target: Path, part: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * part)])
    return target


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def moov_first(folder: Path, **more: Any) -> Path:
    return write_clip(folder / "moov_first.mp4", muxing={"movflags": "+faststart"}, **more)


def only_sound(path: Path, codec: str = "aac") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def no_frames(path: Path) -> Path:
    """A video stream without a single packet, beside real sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 32_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*sound.encode(frame), *sound.encode(None)])
    return path


def picture(path: Path) -> Path:
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        container.mux([*stream.encode(av.VideoFrame(64, 64, "yuvj420p")), *stream.encode(None)])
    return path


def sound_with_cover(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*cover.encode(av.VideoFrame(64, 64, "yuvj420p")), *cover.encode(None)])
        container.mux([*sound.encode(frame), *sound.encode(None)])
    return path


def wav(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    return path


def playlist(path: Path, folder: Path) -> Path:
    write_clip(folder / "target.mp4", seconds=1)
    return written(
        path, f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{folder}/target.mp4\n#EXT-X-ENDLIST\n".encode()
    )


def one_huge_frame(path: Path) -> Path:
    return write_clip(path, seconds=1, fps=1, size=(4800, 4800), codec="mjpeg", audio=None)


def with_a_mangled_box(folder: Path, box: bytes) -> Path:
    """`box` claims 4 GB."""
    data = bytearray(write_clip(folder / "box.mp4", seconds=1).read_bytes())
    at = data.index(box) - 4
    data[at : at + 4] = struct.pack(">I", 0xFFFFFFF0)
    return written(folder / "box.mp4", bytes(data))


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def with_an_unknown_codec(folder: Path) -> Path:
    """The four letters that name the codec changed to ones that no decoder knows."""
    data = moov_first(folder, seconds=1, audio=None).read_bytes()
    return written(folder / "a.mp4", data.replace(b"avc1", b"zzz9"))


def without_a_decoder(folder: Path, name: str) -> Path:
    """A real stream that is marked as another codec's: what a file looks like to a build that cannot decode it."""
    data = moov_first(folder, seconds=1, audio=None).read_bytes()
    return written(folder / "a.mp4", data.replace(b"avc1", name.encode()).replace(b"avcC", b"free"))


Make = Callable[[Path], Path]
REFUSED: dict[str, tuple[Make, str, str]] = {
    "nothing there": (lambda d: d / "absent.mp4", "removed", "no such file"),
    "a folder": (lambda d: directory(d / "a.mp4"), "removed", "no such file"),
    "a pipe": (lambda d: pipe(d / "a.mp4"), "removed", "no such file"),
    "a device": (lambda d: Path("/dev/zero"), "removed", "no such file"),
    "a dangling link": (lambda d: (d / "a.mp4").symlink_to(d / "absent") or d / "a.mp4", "removed", "no such file"),
    "zero bytes": (lambda d: written(d / "a.mp4", b""), "corrupt", "the file is empty"),
    "one byte": (lambda d: written(d / "a.mp4", b"\0"), "corrupt", "cannot be decoded"),
    "text": (lambda d: written(d / "a.mp4", b"not a video " * 99), "corrupt", "cannot be decoded"),
    "noise": (lambda d: written(d / "a.mp4", random.Random(0).randbytes(100_000)), "corrupt", "cannot be decoded"),
    "zeros": (lambda d: written(d / "a.mp4", bytes(100_000)), "corrupt", "cannot be decoded"),
    "a web page": (
        lambda d: written(d / "a.mp4", b"\n<!DOCTYPE html><h1>403 Forbidden</h1>"),
        "corrupt",
        "a web page, not a video",
    ),
    "JSON": (lambda d: written(d / "a.mp4", b'{"error": "quota"}'), "corrupt", "cannot be decoded"),
    "a playlist": (lambda d: playlist(d / "a.mp4", d), "corrupt", "a playlist, not a video"),
    "a playlist by its own name": (lambda d: playlist(d / "a.m3u8", d), "corrupt", "a playlist, not a video"),
    "a concat script": (
        lambda d: written(d / "a.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        "corrupt",
        "cannot be decoded",
    ),
    "a DASH manifest": (
        lambda d: written(d / "a.mp4", b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>"),
        "corrupt",
        "cannot be",
    ),
    "a session description": (
        lambda d: written(d / "a.mp4", b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
        "corrupt",
        "cannot be decoded",
    ),
    "a script": (lambda d: written(d / "a.mp4", b"#!/bin/sh\ntouch /tmp/owned\n"), "corrupt", "cannot be decoded"),
    "an archive": (lambda d: written(d / "a.mp4", b"PK\x03\x04" + bytes(300)), "corrupt", "cannot be decoded"),
    "a picture": (lambda d: picture(d / "p.jpg").rename(d / "a.mp4"), "corrupt", "cannot be decoded"),
    "sound as wav": (lambda d: wav(d / "a.mp4"), "corrupt", "cannot be decoded"),
    "only sound": (lambda d: only_sound(d / "a.mp4"), "corrupt", "no video stream"),
    "sound with a cover picture": (lambda d: sound_with_cover(d / "a.mp4"), "corrupt", "no video stream"),
    "no frames": (lambda d: no_frames(d / "a.mp4"), "corrupt", ""),
    "a header alone": (lambda d: share(moov_first(d), d / "a.mp4", 0.05), "corrupt", ""),
    "cut off before its index": (
        lambda d: share(write_clip(d / "in.mp4"), d / "a.mp4", 0.6),
        "corrupt",
        "cannot be decoded",
    ),
    "cut off after its index": (
        lambda d: share(moov_first(d, seconds=8, audio=None), d / "a.mp4", 0.6),
        "corrupt",
        "truncated: ",
    ),
    "cut off with sound": (lambda d: share(moov_first(d, seconds=8), d / "a.mp4", 0.6), "corrupt", "truncated: "),
    "cut off mkv": (lambda d: share(write_clip(d / "in.mkv", seconds=8), d / "a.mkv", 0.5), "corrupt", "truncated: "),
    "cut off avi": (
        lambda d: share(write_clip(d / "in.avi", seconds=8, codec="mpeg4", audio=None), d / "a.avi", 0.5),
        "corrupt",
        "",
    ),
    "a box larger than the file": (lambda d: with_a_mangled_box(d, b"mdat"), "corrupt", "cannot be decoded"),
    "huge pictures": (lambda d: one_huge_frame(d / "a.mov"), "skipped_rule", "4800x4800 pixels"),
    "a ribbon": (
        lambda d: write_clip(d / "a.mp4", seconds=0.2, size=(960, 16), audio=None),
        "skipped_rule",
        "960x16 pixels; an aspect ratio",
    ),
    "a codec nobody streams": (
        lambda d: write_clip(d / "a.mkv", seconds=0.2, codec="ffv1", audio=None),
        "unsupported_codec",
        "video codec ffv1",
    ),
    "a text in UTF-16": (
        lambda d: written(d / "a.mp4", "not a video".encode("utf-16")),
        "corrupt",
        "cannot be decoded",
    ),
    "an unknown codec": (with_an_unknown_codec, "unsupported_codec", "video codec unknown"),
    "AV1 in name only": (lambda d: without_a_decoder(d, "av01"), "corrupt", ""),
    "VP9 in name only": (lambda d: without_a_decoder(d, "vp09"), "corrupt", ""),
    "HEVC in name only": (lambda d: without_a_decoder(d, "hvc1"), "corrupt", ""),
    "no duration": (
        lambda d: write_clip(d / "a.avi", times=[0.0], audio=None, codec="mpeg4"),
        "corrupt",
        "it has no duration: a single picture",
    ),
    "hours long": (
        lambda d: write_clip(d / "a.mp4", times=[0.0, 9000.0], audio=None),
        "too_long",
        "9000 s; at most 600 s",
    ),
}


CODECS = {
    "hevc": ("libx265", {}),
    "vp9": ("libvpx-vp9", {}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
}


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_that_cannot_be_decoded_here_says_so(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, options = CODECS[codec]
    source = write_clip(tmp_path / "a.mkv", seconds=1, codec=encoder, audio=None, options=options)
    monkeypatch.setattr(container, "VIDEO_CODECS", tuple(set(container.VIDEO_CODECS) - {codec}))
    (row,) = cut_one(source)
    assert row["status"] == "unsupported_codec"
    assert "is not supported" in row["message"]


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(folder / "clips")}


def test_all_of_them_in_one_shard_beside_good_videos(tmp_path: Path) -> None:
    """At least 40 distinct cases: each is a row with its own kind, nothing else is written, and the good clips are all there."""
    assert len(REFUSED) >= 40
    expected, videos = {}, []
    cases: dict[str, tuple[Make, str]] = {name: (make, status) for name, (make, status, _) in REFUSED.items()}
    cases |= {name: (make, "ok") for name, make in ACCEPTED.items()}
    cases |= {f"good {n}": (lambda d: write_clip(d / "a.mp4"), "ok") for n in range(3)}
    for number, (name, (make, status)) in enumerate(cases.items()):
        folder = tmp_path / "sources" / str(number)
        folder.mkdir(parents=True)
        videos.append(
            {"id": name, "path": str(make(folder)), "caption": "=cmd|' /C calc'!A0 <script>alert(1)</script>"}
        )
        expected[name] = status
    before = files_in(tmp_path)
    rows = run(tmp_path, videos, settings=Fetch.model_validate(SETTINGS), threads=2)
    assert by_id(rows) == expected
    assert files_in(tmp_path) - before == {tmp_path / "plan.parquet"}
    with tarfile.open(tmp_path / "clips/0.tar") as archive:
        clips = [name for name in archive.getnames() if name.endswith(".mp4")]
    assert clips == [f"{row['key']}.mp4" for row in rows if row["status"] == "ok"]
    for row in rows:
        assert row["status"] == "ok" or (row["message"] and row["message"].isprintable())
        if row["id"].startswith("good"):
            assert row["frames"] == 6
    assert sum(row["id"].startswith("good") for row in rows) == 3 * 2


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(tmp_path: Path, name: str) -> None:
    make, status, message = REFUSED[name]
    (row,) = cut_one(make(tmp_path))
    assert (row["status"], row["message"][: len(message)]) == (status, message)
    assert row["message"]
    assert row["message"].isprintable()
    assert str(tmp_path) not in row["message"]
    assert not any((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else True


ACCEPTED: dict[str, Make] = {
    "a name with spaces and signs": lambda d: write_clip(d / "-a b;$(x)%s'\".mp4"),
    "a name like a protocol": lambda d: write_clip(d / "concat:a|b.mp4"),
    "a wrong extension": lambda d: write_clip(d / "in.mkv").rename(d / "a.mp4"),
    "one frame": lambda d: write_clip(d / "a.mp4", seconds=1 / 24, audio=None),
    "two by two pixels": lambda d: write_clip(d / "a.mkv", size=(2, 2), codec="mpeg4", audio=None),
    "no sound": lambda d: write_clip(d / "a.mp4", audio=None),
    "a table that claims 4 GB": lambda d: with_a_mangled_box(d, b"stbl"),
    "10 bit": lambda d: write_clip(d / "a.mp4", codec="libx264", options={"profile": "high10"}),
    "frames before time zero": lambda d: remux(write_clip(d / "in.mp4"), d / "a.mp4", shift=-1.5),
    "an odd rotation": lambda d: write_clip(d / "a.mp4", rotation=45),
    "uneven times": lambda d: write_clip(d / "a.mp4", times=[0, 0.2, 1.1, 1.3, 2.5], audio=None),
    "minutes of one picture": lambda d: write_clip(d / "a.mp4", times=[0.0, 500.0], audio=None),
    "sound that starts late": lambda d: write_clip(d / "a.mkv", first=2.0),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_odd_but_sound_is_used(tmp_path: Path, name: str) -> None:
    rows = cut_one(ACCEPTED[name](tmp_path))
    assert {row["status"] for row in rows} == {"ok"}, rows
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [row["file"] for row in rows]


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_never_crash_and_never_pass_for_whole(tmp_path: Path, seed: int) -> None:
    """Damage anywhere: a good clip, or a failure of a known kind. FFmpeg may hide small damage; frames are counted all the same."""
    data = bytearray(moov_first(tmp_path, seconds=3).read_bytes())
    draw = random.Random(seed)
    for _ in range(draw.choice([1, 20, 400])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    for row in cut_one(written(tmp_path / "a.mp4", bytes(data))):
        assert row["status"] in ("ok", "corrupt", "unsupported_codec", "skipped_rule", "too_long"), row
        if row["status"] == "ok":
            assert row["frames"] == 6


def test_a_damaged_span_does_not_take_the_good_one_with_it(tmp_path: Path) -> None:
    source = moov_first(tmp_path, seconds=20, options={"g": "12", "crf": "30"}, audio=None)
    data = bytearray(source.read_bytes())
    at = data.index(b"mdat")
    middle = at + (len(data) - at) // 2
    data[middle:] = bytes(len(data) - middle)
    spans = {"per_video": 19, "seconds": 1.0}
    rows = cut_one(written(tmp_path / "a.mp4", bytes(data)), spans=spans)
    statuses = [row["status"] for row in rows]
    assert len(rows) == 19
    assert statuses[:4] == ["ok"] * 4
    assert statuses[-4:] == ["corrupt"] * 4
