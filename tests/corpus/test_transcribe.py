"""Every engine turns clips into rows of one schema; a bad clip is a row; the same input gives the same rows."""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.corpus.conftest import alive

from tvts.config import Transcribe, UserError
from tvts.corpus.shards import INDEX_SCHEMA
from tvts.corpus.transcribe import pocketsphinx as pocketsphinx_engine
from tvts.corpus.transcribe import transcribe_shard
from tvts.corpus.transcripts import TRANSCRIPT_SCHEMA

PHRASES = Path(__file__).parents[2] / "demo" / "phrases"
RATE = 16000


def phrase(voice: str, text: str) -> np.ndarray:
    """A recorded phrase of the demo, float32 [samples] at 16 kHz."""
    place = next(entry for entry in json.loads((PHRASES / "phrases.json").read_text())[voice] if entry["text"] == text)
    with av.open(str(PHRASES / f"{voice}.opus")) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    sound = np.concatenate([*parts, *(part.to_ndarray()[0] for part in resampler.resample(None))])
    return sound[round(place["start"] * RATE) : round(place["end"] * RATE)]


def narration(*parts: str | float, voice: str = "rms") -> np.ndarray:
    """Phrases (text) and pauses (seconds), one after another."""
    sounds = [
        phrase(voice, part) if isinstance(part, str) else np.zeros(round(part * RATE), np.float32) for part in parts
    ]
    return np.concatenate(sounds)


def clip_bytes(sound: np.ndarray | None, seconds: float) -> bytes:
    """An mp4 with black pictures and, if given, sound."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=5, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = None if sound is None else container.add_stream("aac", rate=RATE, layout="mono")
        for number in range(round(seconds * 5)):
            frame = av.VideoFrame(32, 32, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            for start in range(0, len(sound), 1024):
                part = av.AudioFrame.from_ndarray(sound[None, start : start + 1024].astype(np.float32), "fltp", "mono")
                part.sample_rate, part.pts, part.time_base = RATE, start, Fraction(1, RATE)
                container.mux(audio.encode(part))
            container.mux(audio.encode())
    return buffer.getvalue()


Clips = list[tuple[str, bytes, dict]]


def write_shard(folder: Path, clips: Clips) -> tuple[Path, Path]:
    """A tar of mp4 bytes and its index; `clips` holds (video id, bytes, index columns to change)."""
    folder.mkdir(exist_ok=True)
    tar, rows = folder / "0.tar", []
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, (id, data, columns) in enumerate(clips):
            member = tarfile.TarInfo(f"{number:06d}_00000.mp4")
            member.size = len(data)
            offset = archive.offset + 512
            archive.addfile(member, BytesIO(data))
            row = {
                "id": id,
                "key": f"{number:06d}_00000",
                "span": 0,
                "status": "ok",
                "start": 0.0,
                "duration": 4.0,
                "audio": True,
            }
            digest = hashlib.sha256(data).hexdigest()
            rows.append(row | {"offset": offset, "size": len(data), "sha256": digest} | columns)
    index = folder / "0.parquet"
    pq.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), index)
    return tar, index


def transcripts(
    shard: tuple[Path, Path], settings: Transcribe, threads: int = 1, log: Callable[[str], None] = lambda line: None
) -> list[dict]:
    output = shard[0].parent / "transcripts.parquet"
    shutil.rmtree(output.parent / ".transcripts", ignore_errors=True)
    transcribe_shard(*shard, settings, output, threads, log)
    table = pq.read_table(output)
    assert table.schema.equals(TRANSCRIPT_SCHEMA)
    return table.to_pylist()


def text(row: dict) -> str:
    return " ".join(word["word"] for word in row["words"])


# --- a shard with good and bad clips ---------------------------------------------------------------------------------

FIRST = ("okay so now", 0.4, "the red circle", 0.1, "is going to move up", 0.6)
SECOND = (0.5, "the blue square", 0.1, "goes off to the left", 0.5)


@pytest.fixture(scope="module")
def spoken_shard(tmp_path_factory) -> tuple[Path, Path]:
    first, second = narration(*FIRST), narration(*SECOND)
    silence = np.zeros(4 * RATE, np.float32)
    return write_shard(
        tmp_path_factory.mktemp("spoken"),
        [
            ("first", clip_bytes(first, 4), {"duration": len(first) / RATE}),
            ("failed", b"", {"status": "corrupt", "start": None, "duration": None, "audio": None}),
            ("silent", clip_bytes(silence, 4), {}),
            ("soundless", clip_bytes(None, 4), {"audio": False}),
            ("liar", clip_bytes(None, 4), {}),
            ("broken", b"not a video at all", {}),
            ("beyond", b"", {"offset": 1 << 40, "size": 100}),
            ("second", clip_bytes(second, 4), {"duration": len(second) / RATE}),
        ],
    )


@pytest.fixture(scope="module")
def progress() -> list[str]:
    return []


@pytest.fixture(scope="module")
def heard(spoken_shard, progress) -> list[dict]:
    return transcripts(spoken_shard, Transcribe(engine="pocketsphinx"), log=progress.append)


def test_pocketsphinx_hears_recorded_phrases(heard):
    assert text(heard[0]) == "okay so now the red circle is going to move up"
    assert text(heard[-1]) == "the blue square goes off to the left"
    assert {(row["engine"], row["language"], row["status"]) for row in (heard[0], heard[-1])} == {
        ("pocketsphinx", "en", "ok")
    }


def test_pocketsphinx_times_are_those_of_the_recording(heard):
    def spoken_at(*parts: str | float) -> float:
        return len(narration(*parts)) / RATE

    starts = {word["word"]: word["start"] for word in heard[0]["words"]}
    assert starts["okay"] == pytest.approx(0.0, abs=0.15)
    assert starts["red"] == pytest.approx(spoken_at(*FIRST[:2]) + 0.1, abs=0.15)
    assert starts["is"] == pytest.approx(spoken_at(*FIRST[:4]), abs=0.15)
    assert heard[0]["words"][-1]["end"] == pytest.approx(spoken_at(*FIRST[:5]), abs=0.15)
    assert all(
        word["start"] < word["end"] <= heard[0]["duration"] and 0 < word["probability"] <= 1
        for word in heard[0]["words"]
    )


def test_every_ok_clip_is_a_row_in_order_and_each_fault_has_its_status(heard):
    assert [(row["id"], row["status"]) for row in heard] == [
        ("first", "ok"),
        ("silent", "no_speech"),
        ("soundless", "no_audio"),
        ("liar", "no_audio"),
        ("broken", "internal"),
        ("beyond", "internal"),
        ("second", "ok"),
    ]
    assert all(row["message"] and "\n" not in row["message"] for row in heard if row["status"] == "internal")


def test_processes_and_reruns_change_nothing(spoken_shard, heard):
    assert transcripts(spoken_shard, Transcribe(engine="pocketsphinx"), threads=2) == heard


@pytest.mark.slow
def test_a_killed_job_leaves_no_process_behind(tmp_path):
    data = clip_bytes(narration(*FIRST), 4)
    shard = write_shard(tmp_path, [(f"v{i}", data, {}) for i in range(40)])
    code = (
        "import sys; from pathlib import Path; from tvts.config import Transcribe; from tvts.corpus.transcribe import transcribe_shard\n"
        "if __name__ == '__main__':\n"
        "    transcribe_shard(*map(Path, sys.argv[1:3]), Transcribe(engine='pocketsphinx'), Path(sys.argv[3]), threads=2)\n"
    )
    script = tmp_path / "job.py"
    script.write_text(code)
    job = subprocess.Popen([sys.executable, script, *shard, tmp_path / "out.parquet"])
    assert wait_for(lambda: len(children(job.pid)) >= 2)
    started = children(job.pid)
    job.kill()
    job.wait()
    assert wait_for(lambda: not any(map(alive, started)))
    assert not (tmp_path / "out.parquet").exists()


def children(process: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # threads end
            found += map(int, (task / "children").read_text().split())
    return found


def wait_for(happens: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not (happened := happens()) and time.monotonic() < end:
        time.sleep(0.1)
    return happened


def test_pocketsphinx_takes_decoder_options_and_refuses_unknown_ones(spoken_shard, tmp_path):
    grammar = tmp_path / "colours.gram"
    grammar.write_text(
        "#JSGF V1.0;\ngrammar colours;\npublic <all> = (the | red | circle | okay | so | now | goes | all | way | up)+;\n"
    )
    rows = transcripts(spoken_shard, Transcribe(engine="pocketsphinx", options={"jsgf": str(grammar), "lm": None}))
    assert set(text(rows[-1]).split()) <= {"the", "red", "circle", "okay", "so", "now", "goes", "all", "way", "up"}
    with pytest.raises(UserError, match=r"transcribe\.options"):
        transcripts(spoken_shard, Transcribe(engine="pocketsphinx", options={"no_such_parameter": 1}))
    with pytest.raises(UserError, match=r"transcribe\.options"):
        transcripts(spoken_shard, Transcribe(engine="pocketsphinx", model=str(tmp_path / "missing")))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_tar_that_is_gone_fails_the_job_in_one_line(spoken_shard, tmp_path, threads):
    shard = (tmp_path / "0.tar", spoken_shard[1])
    with pytest.raises(UserError, match=r"0\.tar: No such file or directory; what is transcribed is kept"):
        transcripts(shard, Transcribe(engine="pocketsphinx"), threads)


def test_an_empty_shard_is_an_empty_table(tmp_path):
    assert transcripts(write_shard(tmp_path, []), Transcribe(engine="pocketsphinx"), threads=2) == []


def test_progress_tells_clips_failures_and_speed(heard, progress):
    assert progress[-1].startswith("transcribed 7/7 clips, 2 failed, ")


def test_what_is_heard_does_not_depend_on_the_clip_before():
    generator = np.random.default_rng(0)
    quiet, noisy = (
        sound + generator.normal(0, noise, len(sound)).astype(np.float32)
        for sound, noise in ((narration(*SECOND), 0.01), (narration(*FIRST), 0.05))
    )
    pocketsphinx_engine._start({"fwdflat": False, "maxhmmpf": 2000})
    alone = pocketsphinx_engine.recognise(quiet)
    pocketsphinx_engine.recognise(noisy)
    assert pocketsphinx_engine.recognise(quiet) == alone


def test_engines_load_their_libraries_only_when_chosen():
    code = "import sys, tvts.corpus.transcribe; print({'torch', 'whisper', 'pocketsphinx', 'ftfy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )
