"""Whisper through the real library, with a small random checkpoint that the test writes; and that a killed transcription continues."""

import errno
import json
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import whisper
from tests.corpus.test_transcribe import (  # noqa: F401
    FIRST,
    RATE,
    clip_bytes,
    heard,
    narration,
    progress,
    spoken_shard,
    text,
    transcripts,
    write_shard,
)
from whisper.timing import find_alignment
from whisper.tokenizer import get_tokenizer

from tvts.config import Transcribe, UserError
from tvts.corpus.media import read_audio
from tvts.corpus.transcribe import engine, transcribe_shard
from tvts.corpus.transcribe import whisper as whisper_engine

# ruff: noqa: F811


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


# --- killed and continued


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
    journal.write_text("".join(noted[:3]) + "\0" * 40 + "\n" + noted[3][:40])  # as a lost node leaves it
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


def test_a_tar_that_cannot_be_read_fails_the_job_and_blames_no_clip(tmp_path, checkpoint, monkeypatch):
    sound = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    shard = write_shard(tmp_path, [(f"v{i}", clip_bytes(sound, 1), {}) for i in range(4)])
    settings, output = whisper_settings(checkpoint), tmp_path / "out.parquet"
    lost, read = pq.read_table(shard[1])["offset"].to_pylist()[2], engine.read_member

    def unreadable(tar, offset, size):
        if offset >= lost:
            raise OSError(errno.EIO, "Input/output error", str(tar))
        return read(tar, offset, size)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "read_member", unreadable)
        with pytest.raises(UserError, match=r"0\.tar: Input/output error; what is transcribed is kept"):
            transcribe_shard(*shard, settings, output)
    ids = count_heard(monkeypatch)
    transcribe_shard(*shard, settings, output)
    assert ids == ["v2", "v3"]
    assert set(pq.read_table(output)["status"].to_pylist()) <= {"ok", "no_speech"}


def test_clips_an_engine_stumbled_over_are_heard_again_by_the_next_run(tmp_path, checkpoint, monkeypatch):
    sound = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    shard = write_shard(tmp_path, [(f"v{i}", clip_bytes(sound, 1), {}) for i in range(2)])
    settings, output = whisper_settings(checkpoint), tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(engine, "read_audio", lambda *_: 1 / 0)
        transcribe_shard(*shard, settings, output)
    assert pq.read_table(output)["status"].to_pylist() == ["internal"] * 2
    transcribe_shard(*shard, settings, output)
    assert "internal" not in pq.read_table(output)["status"].to_pylist()


def test_a_shard_with_nothing_new_to_hear_loads_no_model(tmp_path, checkpoint, monkeypatch):
    sound = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    shard = write_shard(tmp_path, [("spoken", clip_bytes(sound, 1), {}), ("silent", clip_bytes(0 * sound, 1), {})])
    settings, output = whisper_settings(checkpoint), tmp_path / "out.parquet"
    transcribe_shard(*shard, settings, output)
    whole = output.read_bytes()
    output.unlink()
    monkeypatch.setattr(whisper, "load_model", lambda *_, **__: pytest.fail("loaded"))
    transcribe_shard(*shard, settings, output)
    assert output.read_bytes() == whole
