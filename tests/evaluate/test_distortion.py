"""Drift against a naive CKA and with known answers; retrieval within and across registers; the stage over real files."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.evaluate.conftest import FRAMES, make_videos
from torch import Tensor

from tvts.config import Benchmark, Evaluation, Run, UserError
from tvts.evaluate.distortion import Drift, Register, drift_per_block, register_retrieval, score_distortion, text_states
from tvts.evaluate.embed import embed
from tvts.evaluate.encoders import load_encoder
from tvts.files import read_json
from tvts.model.tuning import set_trainable

CPU = torch.device("cpu")
EVALUATION = Evaluation(device="cpu", batch_size=3)
TEXTS = ["a red ball", "so now it moves", "it gets light and so on", "up", "down we go"]


def naive_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA by its definition: centred Gram matrices over the texts (Kornblith et al., 2019)."""
    n = len(x)
    centring = torch.eye(n, dtype=torch.double) - 1 / n

    def hsic(a: Tensor, b: Tensor) -> Tensor:
        k, m = a.double() @ a.double().T, b.double() @ b.double().T
        return torch.trace(centring @ k @ centring @ m)

    return float(hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt())


def drift(x: Tensor, y: Tensor, batch: int = 7) -> Drift:
    found = Drift()
    for before, after in zip(x.split(batch), y.split(batch), strict=True):
        found.add(before, after)
    return found


def features(seed: int, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(40, width, generator=generator) * torch.arange(1, width + 1) + 3


@pytest.mark.parametrize("width", [5, 12])
def test_drift_in_batches_is_the_naive_cka_and_cosine(width: int) -> None:
    x, y = features(0), features(1, 12) + 0.5 * features(0)
    x, y = x[:, :width], y[:, :width]
    found = drift(x, y)
    assert found.cka() == pytest.approx(1 - naive_cka(x, y), abs=1e-10)
    assert found.cosine() == pytest.approx(1 - torch.cosine_similarity(x, y).mean().item(), abs=1e-6)
    assert 0.01 < found.cka() < 0.99


def test_equal_features_have_drifted_by_exactly_nothing() -> None:
    x = features(0)
    assert (drift(x, x.clone()).cka(), drift(x, x.clone()).cosine()) == (0, 0)


def test_cka_does_not_see_rotation_and_scale_but_cosine_does() -> None:
    x = features(0)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(3)))[0]
    found = drift(x, 2.5 * x @ rotation)
    assert found.cka() == pytest.approx(0, abs=1e-6)
    assert found.cosine() > 0.1


def test_an_encoder_that_collapsed_has_drifted_all_the_way() -> None:
    assert drift(features(0), torch.ones(40, 12)).cka() == 1
    assert drift(torch.ones(40, 12), torch.ones(40, 12)).cka() == 0


def test_states_are_those_of_the_blocks_at_the_end_of_text(clip_folder: Path) -> None:
    encoder = load_encoder(clip_folder, "clip", FRAMES, CPU)
    ids = encoder.tokens(TEXTS)
    with torch.no_grad():
        states = text_states(encoder.model, ids)
        for row, text in enumerate(TEXTS):
            alone = encoder.model.text_model(encoder.tokens([text]), output_hidden_states=True).hidden_states
            assert torch.allclose(states[0][row], alone[1][0, -1], atol=1e-5)
        assert torch.allclose(states[-1], encoder.text(TEXTS), atol=1e-6)
    assert len(states) == 3


def test_blocks_that_were_frozen_have_not_drifted_at_all(clip_folder: Path) -> None:
    initial = load_encoder(clip_folder, "clip", FRAMES, CPU)
    tuned = copy.deepcopy(initial)
    set_trainable(tuned.model, frozen_blocks=1, train_embeddings=False)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([p for p in tuned.model.parameters() if p.requires_grad], lr=0.1)
    tuned.text(TEXTS).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        found = drift_per_block(initial, tuned, TEXTS)
    for measure in ("cka", "cosine"):
        first, second, output = found[measure]
        assert first == 0
        assert second > 1e-6 and output > 1e-6


def test_the_other_register_gets_in_the_way() -> None:
    basis = torch.eye(6)
    described = Register(text=basis[:3], video=basis[:3], row=torch.arange(3))
    apart = Register(text=basis[3:], video=basis[3:], row=torch.arange(3))
    alone = register_retrieval(described, apart, EVALUATION).metrics
    assert {alone[f"{name}_R@1{suffix}"] for name in ("descriptive", "spoken") for suffix in ("", "_across")} == {100}
    same_video = Register(text=basis[3:], video=torch.stack([basis[0], basis[4], basis[5]]), row=torch.arange(3))
    result = register_retrieval(described, same_video, EVALUATION)
    assert result.metrics["descriptive_R@1"] == 100
    assert result.metrics["descriptive_R@1_across"] == pytest.approx(100 * 2.5 / 3)  # one of three ties with a window
    assert result.chance["spoken_R@1"] == pytest.approx(100 / 3) and result.chance["spoken_R@1_across"] == 100 / 6


@pytest.fixture
def captions(tmp_path: Path, bench: Callable[..., Benchmark]) -> Benchmark:
    make_videos(tmp_path / "videos", [f"{i}.mp4" for i in range(5)])
    (tmp_path / "t").mkdir()
    (tmp_path / "t/test.csv").write_text("path,text\n" + "".join(f"{i}.mp4,{text}\n" for i, text in enumerate(TEXTS)))
    return bench("table", "t", ["retrieval"])


@pytest.mark.parametrize("kind", ["tvts", "clip"])
def test_the_stage(
    kind: Any, captions: Benchmark, clip_folder: Path, tvts_folder: Path, dataset_card: Path,
    make_run: Callable[..., Run], tmp_path: Path,
) -> None:  # fmt: skip
    model = tvts_folder if kind == "tvts" else clip_folder
    (tmp_path / "config.json").write_text(make_run().model_copy(update={"kind": kind}).model_dump_json())
    embeddings, output = tmp_path / "e/some-run/words.safetensors", tmp_path / "s/some-run/toy.distortion.json"
    embed(model, kind, captions, EVALUATION, FRAMES, "pyav", embeddings, log=lambda line: None)
    score_distortion(
        tmp_path / "config.json", model, dataset_card, embeddings, captions, EVALUATION, output, "pyav",
        log=lambda line: None,
    )  # fmt: skip
    body = read_json(output)
    assert (body["run"], body["benchmark"], body["protocol"]) == ("some-run", "toy", "distortion")
    assert body["policy"]["texts"] == {"descriptive": 5, "spoken": 4 * 2}
    assert body["coverage"]["items"] == body["coverage"]["used"] == 5 + 4
    # the model folder holds CLIP as it was, so nothing may have drifted: tuned and initial text towers are the same
    assert body["blocks"]["spoken"] == {"cka": [0, 0, 0], "cosine": [0, 0, 0]}
    assert 0 <= body["metrics"]["spoken_R@1_across"] <= body["metrics"]["spoken_R@1"] <= 100


def test_a_dataset_without_held_out_windows_is_told(
    captions: Benchmark, clip_folder: Path, dataset_card: Path, make_run: Callable[..., Run], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "config.json").write_text(make_run().model_copy(update={"kind": "clip"}).model_dump_json())
    embed(clip_folder, "clip", captions, EVALUATION, FRAMES, "pyav", tmp_path / "e.safetensors", log=lambda line: None)
    monkeypatch.setattr("tvts.evaluate.distortion.FixedWindows", lambda *settings: [])
    with pytest.raises(UserError, match=r"no held-out windows .* raise validation_share"):
        score_distortion(
            tmp_path / "config.json", clip_folder, dataset_card, tmp_path / "e.safetensors", captions, EVALUATION,
            tmp_path / "o.json", "pyav",
        )  # fmt: skip
