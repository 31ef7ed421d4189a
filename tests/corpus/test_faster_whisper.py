"""faster-whisper through the real library, with a small random model that the test writes: rows as from the other engines."""

import base64
import importlib.resources
from pathlib import Path

import faster_whisper
import numpy as np
import pytest
import torch
import transformers
from ctranslate2.converters.transformers import WhisperLoader
from tests.corpus.test_transcribe import FIRST, RATE, SECOND, clip_bytes, narration, text, transcripts, write_shard
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from whisper.tokenizer import LANGUAGES

from tvts.config import Transcribe, UserError
from tvts.corpus.transcribe import engine, make_engine

SPECIAL = [
    "<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in list(LANGUAGES)[:99]),
    "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
]  # fmt: skip


def byte_tokens() -> list[str]:
    """Whisper's own byte-pair tokens, as Hugging Face's tokenizers write bytes."""
    ranks = importlib.resources.files("whisper").joinpath("assets/multilingual.tiktoken").read_text().splitlines()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    return ["".join(letters[byte] for byte in base64.b64decode(line.split()[0])) for line in ranks]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokens = [*byte_tokens(), *SPECIAL]
    folder = tmp_path_factory.mktemp("faster") / "tiny"
    folder.mkdir()
    tokenizer = Tokenizer(BPE({token: index for index, token in enumerate(byte_tokens())}, []))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=51865, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_target_positions=448,
    )  # fmt: skip
    whisper = transformers.WhisperForConditionalGeneration(config)
    for parameter in whisper.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    spec = WhisperLoader().get_model_spec(whisper)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], [tokenizer.token_to_id("<|endoftext|>")]
    spec.config.lang_ids = [tokenizer.token_to_id(token) for token in SPECIAL[2:101]]
    spec.config.alignment_heads = [(1, 0), (1, 1)]
    spec.register_vocabulary([*tokens, *(f"<|{step * 0.02:.2f}|>" for step in range(1501))])
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    return folder


def settings(model: Path | str, **more: object) -> Transcribe:
    standard = {"engine": "faster_whisper", "model": str(model), "device": "cpu", "batch_size": 2}
    return Transcribe.model_validate(standard | {"options": {"max_new_tokens": 30}} | more)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    first, second = narration(*FIRST), narration(*SECOND)
    return write_shard(
        tmp_path_factory.mktemp("spoken"),
        [
            ("first", clip_bytes(first, 4), {"duration": len(first) / RATE}),
            ("silent", clip_bytes(np.zeros(4 * RATE, np.float32), 4), {}),
            ("broken", b"not a video at all", {}),
            ("second", clip_bytes(second, 4), {"duration": len(second) / RATE}),
        ],
    )


@pytest.fixture(scope="module")
def heard(shard: tuple[Path, Path], model: Path) -> list[dict]:
    return transcripts(shard, settings(model))


def test_rows_have_the_same_schema_statuses_and_guards_as_other_engines(heard: list[dict]) -> None:
    assert [row["status"] for row in heard] == ["ok", "no_speech", "internal", "ok"]
    for row in (heard[0], heard[-1]):
        assert (row["engine"], row["language"]) == ("faster_whisper", "en")
        assert len(row["words"]) >= 3
        assert "unlikely" in row["flags"]
        starts = [word["start"] for word in row["words"]]
        assert starts == sorted(starts)
        assert all(0 <= word["start"] <= word["end"] <= row["duration"] + 1e-5 for word in row["words"])


def test_each_clip_says_what_the_library_says_of_it_alone(model: Path) -> None:
    ours = make_engine(settings(model))
    assert isinstance(ours, engine.Listener)
    ours.load()
    library = faster_whisper.WhisperModel(str(model), device="cpu", compute_type="float32")
    sounds = [narration(*parts).astype(np.float32) for parts in (FIRST, SECOND)]
    for sound, transcript in zip(sounds, ours.recognise(sounds), strict=True):
        segments, _ = library.transcribe(
            sound, language="en", beam_size=1, temperature=0.0, without_timestamps=True, max_new_tokens=30,
            condition_on_previous_text=False, log_prob_threshold=None, no_speech_threshold=None,
        )  # fmt: skip
        said = "".join(segment.text for segment in segments)
        assert len(said) > 10
        assert "".join(word["word"] for word in transcript.words) == "".join(said.split())


def test_batches_change_nothing(shard: tuple[Path, Path], model: Path, heard: list[dict]) -> None:
    again = transcripts(shard, settings(model, batch_size=1))
    assert [text(row) for row in again] == [text(row) for row in heard]


def test_the_language_is_detected_for_each_clip_and_doubted(shard: tuple[Path, Path], model: Path) -> None:
    row = transcripts(shard, settings(model, language=None))[0]
    assert row["language"] in LANGUAGES
    assert "uncertain_language" in row["flags"]


def test_int8_is_a_setting(shard: tuple[Path, Path], model: Path) -> None:
    assert transcripts(shard, settings(model, precision="int8"))[0]["status"] == "ok"


@pytest.mark.parametrize("wanted", [None, "large-v3", "{folder}"])
def test_it_wants_a_local_model_and_downloads_nothing(
    shard: tuple[Path, Path], tmp_path: Path, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faster_whisper.transcribe, "download_model", lambda *_, **__: pytest.fail("tried to download"))
    chosen = settings("x").model_copy(update={"model": wanted and wanted.format(folder=tmp_path)})
    with pytest.raises(UserError, match=r"transcribe\.model: .*CTranslate2"):
        transcripts(shard, chosen)


@pytest.mark.parametrize("changed", [{"language": "klingon"}, {"options": {"no_such_option": 1}}])
def test_what_it_does_not_know_is_refused(shard: tuple[Path, Path], model: Path, changed: dict) -> None:
    with pytest.raises(UserError, match=r"transcribe\.language, transcribe\.options"):
        transcripts(shard, settings(model, **changed))


def test_without_the_extra_it_is_told_what_to_install(
    shard: tuple[Path, Path], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tvts.corpus.transcribe.faster_whisper", None)
    with pytest.raises(UserError, match=r"install 'tvts\[faster-whisper\]'"):
        transcripts(shard, settings(model))
