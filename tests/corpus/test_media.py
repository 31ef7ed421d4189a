"""Cutting and reading: the right moments, at the right size, in the right order, whatever the source looks like."""

import hashlib
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.corpus.conftest import TONE_HZ, number_of, write_clip

from tvts.config import Fetch
from tvts.corpus.media import (
    ClipInfo,
    count_frames,
    frame_indices,
    packet_hash,
    probe,
    read_all_frames,
    read_audio,
    read_frames,
    transcode,
)
from tvts.corpus.status import Failure

SETTINGS = Fetch(short_side=64, fps=12.0, gop=16)


def cut(source: Path, start: float, seconds: float, folder: Path, settings: Fetch = SETTINGS) -> tuple[ClipInfo, bytes]:
    output = folder / "out.mp4"
    return transcode(source, start, seconds, settings, output), output.read_bytes()


def numbers(clip: bytes) -> list[int]:
    return [number_of(picture) for picture in read_all_frames(clip)]


def on_screen(times: list[float], start: float, count: int, fps: float) -> list[int]:
    """The number of the last frame not after each tick."""
    return [
        max([n for n, time in enumerate(times) if time <= start + tick / fps + 1e-3], default=0)
        for tick in range(count)
    ]


# --- frame_indices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [
        (12, 12, list(range(12))),
        (24, 12, list(range(0, 24, 2))),
        (100, 12, [3, 11, 20, 28, 36, 45, 53, 61, 70, 78, 86, 95]),
        (300, 12, list(range(12, 300, 25))),
        (5, 12, [0, 1, 2, 3, 4]),
        (1, 12, [0]),
    ],
)
def test_frame_indices_are_the_official_uniform_ones(frames: int, count: int, expected: list[int]) -> None:
    assert frame_indices(frames, count) == expected


def test_frame_indices_equal_the_official_floating_point_form() -> None:
    for frames in range(1, 2000):
        bounds = np.linspace(start=0, stop=frames, num=min(12, frames) + 1).astype(int)
        assert frame_indices(frames, 12) == [(low + high - 1) // 2 for low, high in itertools.pairwise(bounds.tolist())]


# --- probe ------------------------------------------------------------------------------------------------------------


def test_probe_describes_a_video(clip: Path) -> None:
    found = probe(clip)
    assert (found.codec, found.width, found.height, found.fps, found.frames, found.audio) == (
        "h264",
        96,
        64,
        24.0,
        96,
        True,
    )
    assert found.start == 0
    assert found.duration == pytest.approx(4, abs=0.05)


def test_probe_does_not_take_longer_sound_for_a_longer_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long_sound.mkv", seconds=6, times=[n / 10 for n in range(20)] + [6.0], audio="aac")
    assert probe(path).duration == pytest.approx(6, abs=0.2)


# --- transcode --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.0, 0.7, 2.5])
def test_a_cut_shows_the_moments_asked_for(clip: Path, tmp_path: Path, start: float) -> None:
    info, data = cut(clip, start, 1.5, tmp_path)
    assert (info.frames, info.fps, info.width, info.height, info.audio) == (18, 12.0, 96, 64, True)
    assert info.duration == 1.5
    assert numbers(data) == on_screen([n / 24 for n in range(96)], start, 18, 12)


def test_equal_inputs_give_equal_bytes(clip: Path, tmp_path: Path) -> None:
    first, data = cut(clip, 0.3, 2, tmp_path)
    second, again = cut(clip, 0.3, 2, tmp_path)
    assert data == again
    assert first == second
    assert first.sha256 == hashlib.sha256(data).hexdigest()
    assert first.size == len(data)


def test_bytes_do_not_depend_on_what_memory_held_before(tmp_path: Path) -> None:
    """x264's macroblock trees do: with them this test fails nearly every time."""
    source = write_clip(tmp_path / "in.mkv", seconds=2, size=(64, 96), audio=None)
    draw = np.random.default_rng(0)
    littered, found = [], set()
    for _ in range(120):
        littered = [*littered[-5:], np.full(draw.integers(400_000), draw.integers(255), np.uint8)]
        found.add(cut(source, 0.3, 1.5, tmp_path, Fetch(short_side=32, fps=6.0))[0].sha256)
    assert len(found) == 1


def test_keyframes_come_every_gop_and_no_packet_is_out_of_order(clip: Path, tmp_path: Path) -> None:
    info, _ = cut(clip, 0, 4, tmp_path)
    assert info.keyframes == [0, 16, 32]
    with av.open(str(tmp_path / "out.mp4")) as container:
        stamps = [(packet.pts, packet.dts) for packet in container.demux(video=0) if packet.size]
    assert stamps == [(pts, pts) for pts in sorted(pts for pts, _ in stamps)]
    assert stamps[0] == (0, 0)


def test_the_index_precedes_the_frames_so_that_positional_reads_are_few(clip: Path, tmp_path: Path) -> None:
    _, data = cut(clip, 0, 2, tmp_path)
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((96, 64), 32, (48, 32)),
        ((64, 96), 32, (32, 48)),
        ((96, 64), 100, (150, 100)),
        ((98, 50), 48, (94, 48)),
        ((64, 64), 33, (32, 32)),
    ],
)
def test_the_short_side_is_as_asked_and_the_shape_is_kept(
    tmp_path: Path, size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    source = write_clip(tmp_path / "in.mp4", seconds=0.5, size=size, audio=None)
    info, _ = cut(source, 0, 0.5, tmp_path, Fetch(short_side=short_side, fps=12.0))
    assert (info.width, info.height) == expected


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", seconds=0.5, size=(72, 64), sample_aspect_ratio=Fraction(4, 3), audio=None)
    info, _ = cut(source, 0, 0.5, tmp_path)
    assert (info.width, info.height) == (96, 64)


@pytest.mark.parametrize("rotation", [90, 180, 270, 45])
def test_a_turned_video_is_set_upright(tmp_path: Path, rotation: int) -> None:
    """The container says how players must turn the picture; PyAV's own reading of it is the reference for the direction."""
    source = write_clip(tmp_path / "in.mp4", seconds=0.5, audio=None, rotation=rotation)
    with av.open(str(source)) as container:
        frame = next(container.decode(video=0))
    turns = round(frame.rotation / 90) % 4
    expected = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    info, data = cut(source, 0, 0.5, tmp_path)
    assert (info.height, info.width) == expected.shape[:2]
    assert np.abs(read_all_frames(data)[0].astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    "times",
    [
        [0, 0.1, 0.15, 0.2, 0.9, 1.0, 1.7, 1.71, 1.72, 2.0],
        [0.0, 1.9],
        [n / 50 for n in range(100)],
    ],
    ids=["irregular", "two pictures", "50 fps"],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_rate_becomes_a_constant_one_without_shifting_time(
    tmp_path: Path, times: list[float], suffix: str
) -> None:
    source = write_clip(tmp_path / f"in.{suffix}", times=times, audio=None)
    _, data = cut(source, 0.4, 1.5, tmp_path)
    assert numbers(data) == on_screen(times, 0.4, 18, 12)


def test_an_hour_long_still_is_cheap(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "still.mp4", times=[0.0, 3590.0], audio=None)
    assert probe(source).duration > 3590
    info, data = cut(source, 2000, 30, tmp_path)
    assert info.frames == 360
    assert set(numbers(data)) == {0}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_time_zero_is_the_first_frame_wherever_the_clock_starts(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / f"late.{suffix}", seconds=3, first=7.5, audio="aac" if suffix != "ts" else "mp2")
    assert probe(source).duration == pytest.approx(3, abs=0.1)
    info, data = cut(source, 1, 1, tmp_path)
    assert numbers(data) == on_screen([n / 24 for n in range(72)], 1, 12, 12)
    assert info.audio


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx265", {"x265-params": "log-level=none:pools=1"}),
        ("webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}),
        ("mp4", "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
        ("avi", "mpeg4", {}),
        ("mov", "mjpeg", {}),
        ("mpg", "mpeg2video", {}),
        ("flv", "flv", {}),
        ("mkv", "libx264", {}),
    ],
)
def test_other_containers_and_codecs_are_cut_alike(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str]
) -> None:
    audio = {"webm": "libopus", "flv": None, "mpg": "mp2", "avi": "mp2"}.get(suffix, "aac")
    source = write_clip(
        tmp_path / f"in.{suffix}", seconds=2, codec=codec, options=options, audio=None if audio == "libopus" else audio
    )
    _, data = cut(source, 0.5, 1, tmp_path)
    assert numbers(data) == on_screen([n / 24 for n in range(48)], 0.5, 12, 12)


def remux(source: Path, target: Path, keep: Callable[[av.Packet], bool] = lambda _: True, shift: float = 0.0) -> Path:
    """Copy the video packets, without the sound, shifted in time."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None and keep(packet):
                offset = round(shift / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                new.mux(packet)
    return target


def test_copies_have_equal_hashes_in_any_container(clip: Path, tmp_path: Path) -> None:
    copied = remux(clip, tmp_path / "copied.mov")
    assert packet_hash(copied, "video") == packet_hash(clip, "video")
    assert packet_hash(copied, "audio") is None
    other = write_clip(tmp_path / "other.mp4", seconds=3)
    assert packet_hash(other, "video") != packet_hash(clip, "video")
    assert packet_hash(other, "audio") not in (None, packet_hash(clip, "audio"))


def test_streams_without_packets_are_no_copies_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        container.add_stream("aac", rate=32_000, layout="stereo")
        container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(video.encode(None))
    assert probe(path).audio
    assert packet_hash(path, "audio") is None
    assert packet_hash(path, "video") is not None
    (tmp_path / "text.mp4").write_text("hello")
    assert packet_hash(tmp_path / "text.mp4", "video") is None


def test_frames_hidden_by_an_edit_list_are_not_frames(clip: Path, tmp_path: Path) -> None:
    """A stream-copied cut: the mp4 begins with frames before time 0 that players do not show."""
    source = remux(clip, tmp_path / "copied.mp4", shift=-1.5)
    shown = read_all_frames(source)
    assert len(shown) < 96
    assert count_frames(source) == len(shown)
    chosen = [0, 7, 30, len(shown) - 1]
    assert np.array_equal(read_frames(source, chosen), shown[chosen])
    _, data = cut(source, 0, 1, tmp_path)
    first = number_of(shown[0])
    assert numbers(data) == [first + n for n in on_screen([n / 24 for n in range(len(shown))], 0, 12, 12)]


def test_a_failed_cut_leaves_no_file(tmp_path: Path) -> None:
    source = tmp_path / "text.mp4"
    source.write_text("this is not a video")
    with pytest.raises(Failure, match="corrupt"):
        transcode(source, 0, 1, SETTINGS, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_full_disk_is_not_the_videos_fault(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        transcode(clip, 0, 4, SETTINGS, tmp_path / "out.mp4")


def test_a_span_beyond_the_last_frame_is_not_padded_with_a_frozen_picture(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"frames end at 4\.0 s, 7\.0 s were expected"):
        transcode(clip, 3, 4, SETTINGS, tmp_path / "out.mp4")


# --- sound ------------------------------------------------------------------------------------------------------------


def dominant_hz(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() / len(samples) * rate)


def test_sound_survives_at_its_level_and_pitch(clip: Path, tmp_path: Path) -> None:
    _, data = cut(clip, 1, 2, tmp_path)
    samples = read_audio(data)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(2 * 16_000, abs=1024)
    steady = samples[4000:28_000]
    assert dominant_hz(steady, 16_000) == pytest.approx(TONE_HZ, abs=2)
    assert np.abs(steady).max() == pytest.approx(0.3, abs=0.05)
    assert dominant_hz(read_audio(data, 8000)[2000:14_000], 8000) == pytest.approx(TONE_HZ, abs=2)


def test_sound_keeps_its_place_beside_the_pictures(tmp_path: Path) -> None:
    """A beep from 2.0 to 2.2 s of the source is at 0.5 s of a clip cut at 1.5 s."""
    source = tmp_path / "beep.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        samples = np.zeros((1, 64_000), np.int16)
        samples[0, 32_000:35_200] = 20_000 * np.sin(np.arange(3200))
        for at in range(0, 64_000, 1600):
            frame = av.AudioFrame.from_ndarray(samples[:, at : at + 1600], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, at
            container.mux(sound.encode(frame))
            container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(video.encode(None))
    _, data = cut(source, 1.5, 2, tmp_path)
    loud = np.flatnonzero(np.abs(read_audio(data)) > 0.2)
    assert loud[0] / 16_000 == pytest.approx(0.5, abs=0.02)
    assert loud[-1] / 16_000 == pytest.approx(0.7, abs=0.02)


def test_channels_and_rate_may_change_in_mid_file(tmp_path: Path) -> None:
    """As broadcasts do: 1 s of stereo at 32 kHz, then 1 s of one channel at 48 kHz."""
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp2", rate=32_000, layout="stereo")
        for second, (rate, layout, channels) in enumerate([(32_000, "stereo", 2), (48_000, "mono", 1)]):
            encoder = av.CodecContext.create("mp2", "w")
            encoder.sample_rate, encoder.layout, encoder.format = rate, layout, "s16"
            encoder.time_base = Fraction(1, rate)
            tone = 10_000 * np.sin(2 * np.pi * TONE_HZ * np.arange(rate) / rate)
            for at in range(0, rate, 1152):
                part = np.repeat(tone[at : at + 1152, None], channels, 1).astype(np.int16).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, second * rate + at, Fraction(1, rate)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    samples = read_audio(path)
    assert len(samples) == pytest.approx(32_000, abs=2000)
    for begin in (2000, 18_000):
        assert dominant_hz(samples[begin : begin + 12_000], 16_000) == pytest.approx(TONE_HZ, abs=2)


def test_a_video_without_sound_says_so(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "silent.mp4", seconds=1, audio=None)
    info, data = cut(source, 0, 1, tmp_path)
    assert not info.audio
    with pytest.raises(Failure, match="no_audio"):
        read_audio(data)


def test_sound_may_come_from_a_file_of_its_own(tmp_path: Path, clip: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", seconds=2, audio=None)
    info = transcode(silent, 0.5, 1, SETTINGS, tmp_path / "out.mp4", audio_source=clip)
    assert info.audio
    assert dominant_hz(read_audio(tmp_path / "out.mp4")[2000:14_000], 16_000) == pytest.approx(TONE_HZ, abs=2)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipInfo, bytes]:
    return cut(clip, 0, 4, tmp_path_factory.mktemp("ours"))


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@pytest.mark.parametrize("stored", [True, False], ids=["stored keyframes", "scanned"])
@pytest.mark.parametrize("indices", [[0], [47], [0, 1, 2], [3, 17, 18, 33, 46], [40, 2, 20, 2], list(range(48))])
def test_sparse_frames_equal_those_of_a_whole_decode(
    ours: tuple[ClipInfo, bytes], reader: str, stored: bool, indices: list[int]
) -> None:
    info, data = ours
    found = read_frames(data, indices, reader, info.keyframes if stored else None)  # type: ignore[arg-type]
    assert found.dtype == np.uint8
    assert np.array_equal(found, read_all_frames(data)[indices])


def test_a_path_bytes_and_a_file_give_the_same_frames(ours: tuple[ClipInfo, bytes], tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(ours[1])
    with (tmp_path / "clip.mp4").open("rb") as file:
        by_file = read_frames(file, [5, 30])
    assert np.array_equal(by_file, read_frames(ours[1], [5, 30]))
    assert np.array_equal(by_file, read_frames(tmp_path / "clip.mp4", [5, 30]))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "webm"])
def test_frame_numbers_of_foreign_files_are_those_of_a_whole_decode(tmp_path: Path, suffix: str) -> None:
    codec = {"avi": "mpeg4", "webm": "libvpx-vp9"}.get(suffix, "libx264")
    options = {"bf": "2", "g": "10"} if codec != "libvpx-vp9" else {"cpu-used": "8", "deadline": "realtime"}
    source = write_clip(tmp_path / f"in.{suffix}", seconds=2, codec=codec, options=options, audio=None)
    every = read_all_frames(source)
    assert [number_of(picture) for picture in every] == list(range(48))
    assert count_frames(source) == 48
    chosen = [40, 3, 22, 47, 0]
    assert np.array_equal(read_frames(source, chosen), every[chosen])


@pytest.mark.parametrize("index", [48, -1, 1000])
@pytest.mark.parametrize("stored", [True, False])
def test_a_frame_that_does_not_exist_is_an_index_error(ours: tuple[ClipInfo, bytes], index: int, stored: bool) -> None:
    with pytest.raises(IndexError, match=f"frame {index} of a video of 48 frames"):
        read_frames(ours[1], [0, index], keyframes=ours[0].keyframes if stored else None)


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_a_damaged_clip_is_a_failure(ours: tuple[ClipInfo, bytes], reader: str) -> None:
    with pytest.raises(Failure, match="corrupt"):
        read_frames(ours[1][: len(ours[1]) // 3], [0, 40], reader, ours[0].keyframes)  # type: ignore[arg-type]
