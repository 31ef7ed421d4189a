"""Every engine turns clips into rows of one schema; a bad clip is a row; the same input gives the same rows."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import whisper
from whisper.timing import find_alignment
from whisper.tokenizer import get_tokenizer

from tvts.config import Transcribe, UserError
from tvts.corpus.media import read_audio
from tvts.corpus.shards import INDEX_SCHEMA
from tvts.corpus.transcribe import engine, transcribe_shard
from tvts.corpus.transcribe import pocketsphinx as pocketsphinx_engine
from tvts.corpus.transcribe import whisper as whisper_engine
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


def count_heard(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Ids of the clips that are listened to; the job is interrupted when it comes to the one after `stop_after` of them."""
    ids: list[str] = []
    real = engine.hear

    def hear(clip: engine.Clip) -> np.ndarray | engine.Transcript:
        if len(ids) == stop_after:
            raise KeyboardInterrupt
        ids.append(clip.id)
        return real(clip)

    monkeypatch.setattr(engine, "hear", hear)
    return ids


def test_a_killed_job_continues_with_the_batch_it_was_in(tmp_path, checkpoint, monkeypatch):
    generator = np.random.default_rng(0)
    sounds = [generator.normal(0, 0.1, RATE).astype(np.float32) for _ in range(5)]
    shard = write_shard(tmp_path, [(f"v{i}", clip_bytes(sound, 1), {}) for i, sound in enumerate(sounds)])
    settings, whole, output = whisper_settings(checkpoint), tmp_path / "whole.parquet", tmp_path / "part.parquet"
    transcribe_shard(*shard, settings, whole)
    with monkeypatch.context() as patch:
        count_heard(patch, stop_after=4)
        with pytest.raises(KeyboardInterrupt):
            transcribe_shard(*shard, settings, output)
    journal = tmp_path / ".part" / "rows.jsonl"
    noted = journal.read_text().splitlines(keepends=True)
    assert len(noted) == 4
    journal.write_text("".join(noted[:3]) + noted[3][:40])
    ids, told = count_heard(monkeypatch), []
    transcribe_shard(*shard, settings, output, log=told.append)
    assert ids == ["v2", "v3", "v4"]
    assert told[0] == "continuing, 2 of 5 clips are transcribed"
    assert output.read_bytes() == whole.read_bytes()


def test_a_shard_with_one_new_clip_listens_to_that_alone(tmp_path, checkpoint, monkeypatch):
    generator = np.random.default_rng(0)
    clips = [(f"v{i}", clip_bytes(generator.normal(0, 0.1, RATE).astype(np.float32), 1), {}) for i in range(3)]
    settings, output = whisper_settings(checkpoint), tmp_path / "out.parquet"
    transcribe_shard(*write_shard(tmp_path, clips[:2]), settings, output)
    output.unlink()
    ids = count_heard(monkeypatch)
    transcribe_shard(*write_shard(tmp_path, clips), settings, output)
    assert ids == ["v2"]
    assert [row["id"] for row in pq.read_table(output).to_pylist()] == ["v0", "v1", "v2"]
    assert json.loads((tmp_path / "out_stats.json").read_text())["clips"] == 3
    transcribe_shard(*write_shard(tmp_path, clips), settings.model_copy(update={"language": "de"}), output)
    assert ids == ["v2", "v0", "v1", "v2"]


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
    assert wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in started))
    assert not (tmp_path / "out.parquet").exists()


def children(process: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


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


# --- Whisper, with a small random checkpoint -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    torch.manual_seed(0)
    dims = whisper.model.ModelDimensions(
        n_mels=80, n_audio_ctx=1500, n_audio_state=32, n_audio_head=2, n_audio_layer=1,
        n_vocab=51865, n_text_ctx=40, n_text_state=32, n_text_head=2, n_text_layer=2,
    )  # fmt: skip
    model = whisper.model.Whisper(dims)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path_factory.mktemp("whisper") / "random.pt"
    torch.save({"dims": asdict(dims), "model_state_dict": model.state_dict()}, path)
    return str(path)


def whisper_settings(checkpoint: str, **more) -> Transcribe:
    return Transcribe(**{"engine": "whisper", "model": checkpoint, "device": "cpu", "batch_size": 2} | more)


@pytest.fixture(scope="module")
def whispered(spoken_shard, checkpoint) -> list[dict]:
    return transcripts(spoken_shard, whisper_settings(checkpoint))


def test_whisper_rows_have_the_same_statuses_and_valid_words(whispered, heard):
    assert [row["status"] for row in whispered] == [row["status"] for row in heard]
    for row in (whispered[0], whispered[-1]):
        assert len(row["words"]) > 3
        assert "unlikely" in row["flags"]
        starts = [word["start"] for word in row["words"]]
        assert starts == sorted(starts)
        assert all(0 <= word["start"] <= word["end"] <= row["duration"] + 1e-5 for word in row["words"])
        assert all(0 < word["probability"] < 1 and word["word"] == word["word"].strip() for word in row["words"])


def test_whisper_says_what_the_library_says_clip_by_clip(whispered, checkpoint):
    model = whisper.load_model(checkpoint, device="cpu")
    sound = read_audio(clip_bytes(narration(*FIRST), 4), RATE)[: len(narration(*FIRST))]
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(sound)))
    result = whisper.decode(model, mel, whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False))
    tokenizer = get_tokenizer(True, num_languages=model.num_languages, language="en", task="transcribe")
    timings = find_alignment(model, tokenizer, [t for t in result.tokens if t < tokenizer.eot], mel, len(sound) // 160)
    assert "".join(word["word"] for word in whispered[0]["words"]) == "".join(result.text.split())
    ours = [(word["start"], word["probability"]) for word in whispered[0]["words"]]
    theirs = {(round(timing.start, 2), round(float(timing.probability), 4)) for timing in timings}
    assert len(theirs) > 3
    assert sum((round(start, 2), round(probability, 4)) in theirs for start, probability in ours) >= len(ours) - 1


def test_batches_change_nothing(spoken_shard, checkpoint, whispered):
    for batch_size in (1, 7):
        again = transcripts(spoken_shard, whisper_settings(checkpoint, batch_size=batch_size), threads=2)
        assert [text(row) for row in again] == [text(row) for row in whispered]
        assert [row["status"] for row in again] == [row["status"] for row in whispered]


def test_whisper_detects_the_language_and_doubts_it(spoken_shard, checkpoint):
    row = transcripts(spoken_shard, whisper_settings(checkpoint, language=None))[0]
    assert row["language"] in whisper.tokenizer.LANGUAGES
    assert "uncertain_language" in row["flags"]


def test_whisper_tells_when_another_language_is_spoken(spoken_shard, checkpoint, monkeypatch, whispered):
    assert "other_language" not in whispered[0]["flags"]
    monkeypatch.setattr(engine, "LANGUAGE", 0.0)
    detected = transcripts(spoken_shard, whisper_settings(checkpoint, language=None))[0]["language"]
    for language, flagged in ((detected, False), ("en" if detected != "en" else "de", True)):
        row = transcripts(spoken_shard, whisper_settings(checkpoint, language=language))[0]
        assert (row["language"], "other_language" in row["flags"]) == (language, flagged)


def test_whisper_drops_what_it_takes_for_no_speech(spoken_shard, checkpoint, monkeypatch):
    monkeypatch.setattr(engine, "NO_SPEECH", 0.0)
    row = transcripts(spoken_shard, whisper_settings(checkpoint))[0]
    assert (row["status"], row["words"]) == ("no_speech", [])


def test_a_batch_too_large_for_memory_is_told_in_one_line(spoken_shard, checkpoint, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(whisper.Whisper, "decode", exhausted)
    with pytest.raises(UserError, match=r"transcribe\.batch_size: 2 clips"):
        transcripts(spoken_shard, whisper_settings(checkpoint))


@pytest.mark.parametrize("model", [None, "large-v3", "{folder}/none.pt", "{folder}/text.pt"])
def test_whisper_wants_a_local_checkpoint_and_downloads_nothing(spoken_shard, tmp_path, model, monkeypatch):
    monkeypatch.setattr(whisper, "_download", lambda *_: pytest.fail("tried to download"))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match=r"transcribe\.model"):
        transcripts(spoken_shard, whisper_settings(model and model.format(folder=tmp_path)))


@pytest.mark.parametrize("changed", [{"language": "klingon"}, {"options": {"no_such_option": 1}}])
def test_whisper_refuses_what_it_does_not_know(spoken_shard, checkpoint, changed):
    with pytest.raises(UserError, match=r"transcribe\.language, transcribe\.options"):
        transcripts(spoken_shard, whisper_settings(checkpoint, **changed))


def test_alignment_heads_are_found_by_hash_or_by_name_and_size():
    def dims(layers: int, heads: int) -> whisper.model.ModelDimensions:
        return whisper.model.ModelDimensions(80, 1500, 64, heads, layers, 51865, 448, 64, heads, layers)

    large = whisper._MODELS["large-v3"].split("/")[-2]
    assert whisper_engine.alignment_heads("renamed", large, dims(32, 20)) == whisper._ALIGNMENT_HEADS["large-v3"]
    assert whisper_engine.alignment_heads("tiny", "0" * 64, dims(4, 6)) == whisper._ALIGNMENT_HEADS["tiny"]
    assert whisper_engine.alignment_heads("tiny", "0" * 64, dims(2, 2)) is None
    assert whisper_engine.alignment_heads("mine", "0" * 64, dims(4, 6)) is None
