"""Equality with the official code, by numbers it produced."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.model.conftest import GOLDEN

from tvts.model import TVTSModel, from_official, to_official
from tvts.model.convert import _pairs
from tvts.objectives import contrastive_loss, tvts_loss

STYLES = {"clip": "openai", "openclip": "openclip"}
HEADS = {"vision_heads": 4, "text_heads": 4, "sorter_heads": 4}


def load(style: str) -> tuple[TVTSModel, dict[str, torch.Tensor]]:
    state = load_file(GOLDEN / f"{style}_style.checkpoint.safetensors")
    return from_official(state, clip_style=STYLES[style], **HEADS), load_file(GOLDEN / f"{style}_style.io.safetensors")


def run(model: TVTSModel, io: dict[str, torch.Tensor]):
    videos = len(io["video"])
    input_ids = io["text"].unflatten(0, (-1, videos)).transpose(0, 1)
    output = model(io["video"], io["keep_ind"], input_ids)
    return output, tvts_loss(output, torch.arange(4).expand(videos, -1))


def assert_close(ours: torch.Tensor, official: torch.Tensor, relative: float) -> None:
    assert ours.shape == official.shape
    assert (ours - official).abs().max() <= relative * official.abs().max()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_outputs_and_losses_equal_the_official_ones(style: str, attention: str) -> None:
    model, io = load(style)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        output, losses = run(model, io)
    assert_close(output.transcript_embeds.transpose(0, 1).flatten(0, 1), io["transcript_embeds"], 1e-5)
    assert_close(output.text_embeds, io["text_embeds"], 1e-5)
    assert_close(output.video_embeds, io["video_embeds"], 1e-5)
    assert_close(output.video_tokens, io["video_tokens"], 1e-5)
    assert_close(output.order_logits, io["predict_order"], 1e-5)
    assert_close(losses["contrastive"], io["loss_contrastive"].squeeze(), 1e-6)
    assert_close(losses["sorting"], io["loss_sorting"].squeeze(), 1e-6)


@pytest.mark.parametrize("style", STYLES)
def test_gradient_norms_equal_the_official_ones(style: str) -> None:
    model, io = load(style)
    run(model, io)[1]["loss"].backward()
    ours = dict(model.named_parameters())
    pairs = list(_pairs(model.config))
    assert sum(len(pair.parts) for pair in pairs) == len(ours)
    for pair in pairs:
        gradient = torch.cat([ours[part].grad.flatten() for part in pair.parts])
        assert gradient.norm().item() == pytest.approx(io[f"grad.{pair.official}"].item(), rel=1e-4), pair.official


def test_similarity_is_the_cosine_behind_the_contrastive_loss() -> None:
    model, io = load("clip")
    with torch.no_grad():
        output, _ = run(model, io)
    similarity = torch.cosine_similarity(output.video_embeds[:, None], output.text_embeds[None], dim=-1)
    assert_close(similarity, io["similarity"], 1e-5)
    logits = io["similarity"] / 0.05
    expected = -logits.log_softmax(1).diag().mean() - logits.log_softmax(0).diag().mean()
    assert_close(contrastive_loss(io["video_embeds"], io["text_embeds"]), expected, 1e-6)


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("style", STYLES)
def test_official_weights_survive_the_round_trip(style: str, prefix: str) -> None:
    state = load_file(GOLDEN / f"{style}_style.checkpoint.safetensors")
    state = {prefix + key.removeprefix("module."): value for key, value in state.items()}
    back = to_official(from_official(state, **HEADS), prefix)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("name", "options", "millions", "settings"),
    [
        ("TVTSv2_B_32", {}, 186.0, {"num_patches": 49, "sorter_heads": 8}),
        ("TVTSv2_B_16", {}, 184.3, {"num_patches": 196, "sorter_heads": 8}),
        (
            "TVTSv2_H_14",
            {"vision_heads": 16, "clip_style": "openclip"},
            1221.3,
            {"num_patches": 256, "sorter_heads": 16},
        ),
    ],
)
def test_released_checkpoints_convert_without_a_key_left_over(name, options, millions, settings) -> None:
    shapes = json.loads((GOLDEN / "official_checkpoint_keys.json").read_text())[name]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    model = from_official(state, **options)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert {key: getattr(model.config, key) for key in settings} == settings
    back = to_official(model, "module.")
    assert {key: list(value.shape) for key, value in back.items()} == shapes
