"""The model's parts against plain references, and what it refuses."""

import copy

import pytest
import torch
from tests.model.conftest import EOS, make_batch, make_model
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from tvts.model import TVTSConfig, TVTSModel, trim_text


def reference_divided_attention(layer, hidden: torch.Tensor, frames: int, over: str) -> torch.Tensor:
    """Token by token: which keys may it see, softmax over those."""
    tokens, width = hidden.shape[1:]
    patches = (tokens - 1) // frames
    place = torch.arange(tokens - 1)
    group = place // patches if over == "space" else place % patches
    sees = torch.ones(tokens, tokens, dtype=torch.bool)
    sees[1:, 1:] = group[:, None] == group[None]
    query, key, value = (
        projection(hidden).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for projection in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    scores = query @ key.mT / (width // layer.heads) ** 0.5
    mixed = scores.masked_fill(~sees, -torch.inf).softmax(-1) @ value
    return layer.out_proj(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("over", ["space", "time"])
@pytest.mark.parametrize("patches", [16, 6])
def test_divided_attention_equals_masked_attention_forward_and_backward(over: str, patches: int) -> None:
    block = make_model().vision_model.encoder.layers[0]
    layer = (block.self_attn if over == "space" else block.temporal_attn).double()
    hidden = torch.randn(2, 1 + 5 * patches, 48, dtype=torch.double, requires_grad=True)
    weights = torch.randn_like(hidden)
    results = []
    for output in (layer(hidden, 5, over), reference_divided_attention(layer, hidden, 5, over)):
        gradients = torch.autograd.grad((output * weights).sum(), [hidden, *layer.parameters()])
        results.append((output, *gradients))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_space_attention_residual_skips_the_time_result() -> None:
    block = make_model().vision_model.encoder.layers[0]
    hidden = torch.randn(2, 1 + 5 * 6, 48)
    timed = hidden + block.temporal_attn(block.layer_norm3(hidden), 5, "time")
    middle = hidden + block.self_attn(block.layer_norm1(timed), 5, "space")
    torch.testing.assert_close(block(hidden, 5), middle + block.mlp(block.layer_norm2(middle)))


def test_no_attention_sees_a_mask_or_more_keys_than_its_group() -> None:
    seen = []

    def spy(module, query, key, value, mask, **kwargs):
        seen.append((module.is_causal, query.shape[2], key.shape[2], mask))
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    AttentionInterface.register("spy", spy)
    model = make_model()
    model.set_attn_implementation("spy")
    model(**make_batch())
    assert all(mask is None for *_, mask in seen)
    video = {(queries, keys) for causal, queries, keys, _ in seen if not causal}
    assert video >= {(5, 6), (6, 7), (1, 31)}  # time, space, CLS: groups and CLS alone


def test_patches_are_those_of_the_convolution() -> None:
    embeddings = make_model().vision_model.embeddings
    batch = make_batch(kept=6)
    video, keep = batch["video"], batch["keep_indices"]
    frames = embeddings.patch_embedding(video.flatten(0, 1)).flatten(2).mT.unflatten(0, video.shape[:2])
    position = embeddings.position_embedding.weight
    every = frames + position[1:] + embeddings.temporal_embedding[None, :, None]
    cls = (embeddings.class_embedding + position[0]).expand(len(video), 1, -1)
    torch.testing.assert_close(embeddings(video, None), torch.cat([cls, every.flatten(1, 2)], 1))
    kept = torch.stack([frame[:, index] for frame, index in zip(every, keep, strict=True)])
    torch.testing.assert_close(embeddings(video, keep), torch.cat([cls, kept.flatten(1, 2)], 1))


@pytest.mark.parametrize("style", ["openai", "openclip"])
def test_hidden_patches_do_not_reach_the_embedding(style: str) -> None:
    model, batch = make_model(clip_style=style), make_batch()
    video, keep = batch["video"], batch["keep_indices"]
    hidden = torch.ones(3, 16, dtype=torch.bool).scatter(1, keep, False)
    pixels = hidden.view(3, 1, 1, 4, 4).repeat_interleave(8, 3).repeat_interleave(8, 4)
    before = model.get_video_features(video, keep)
    torch.testing.assert_close(model.get_video_features(video + 100 * pixels, keep), before)
    assert not torch.allclose(model.get_video_features(video + ~pixels, keep), before)


def test_order_of_kept_patches_does_not_matter_and_all_kept_is_no_mask() -> None:
    model, batch = make_model(), make_batch()
    video, keep = batch["video"], batch["keep_indices"]
    torch.testing.assert_close(model.get_video_features(video, keep), model.get_video_features(video, keep.flip(1)))
    everything = torch.randperm(16).expand(3, -1)
    torch.testing.assert_close(model.get_video_features(video, everything), model.get_video_features(video))


def test_order_of_frames_matters() -> None:
    model, video = make_model(), make_batch()["video"]
    assert not torch.allclose(model.get_video_features(video), model.get_video_features(video.flip(1)), atol=1e-3)


def test_text_is_cut_exactly() -> None:
    model, ids = make_model(), make_batch()["input_ids"]
    assert trim_text(ids, EOS).shape == (3, 4, 10)
    whole = model.text_projection(model.text_model(ids.flatten(0, 1)).pooler_output)
    torch.testing.assert_close(model.get_text_features(ids.flatten(0, 1)), whole)


def test_text_is_cut_for_old_configs_whose_end_of_text_is_the_largest_id() -> None:
    ids = torch.tensor([[98, 4, 99, 0, 0], [98, 99, 0, 0, 0]])
    assert torch.equal(trim_text(ids, 2), ids[:, :3])
    assert torch.equal(trim_text(ids, 99), ids[:, :3])


def test_outputs_fit_together() -> None:
    model, batch = make_model(), make_batch()
    output = model(**batch)
    shapes = {key: tuple(value.shape) for key, value in output.items()}
    assert shapes == {
        "video_embeds": (3, 40),
        "transcript_embeds": (3, 4, 40),
        "text_embeds": (3, 40),
        "video_tokens": (3, 31, 40),
        "order_logits": (3, 4, 4),
    }
    torch.testing.assert_close(output.video_embeds, model.get_video_features(batch["video"], batch["keep_indices"]))
    texts = model.get_text_features(batch["input_ids"].flatten(0, 1)).unflatten(0, (3, 4))
    torch.testing.assert_close(output.transcript_embeds, texts)
    torch.testing.assert_close(output.text_embeds, texts.mean(1))


def test_one_text_or_no_sorter_gives_no_order() -> None:
    batch = make_batch()
    assert make_model()(**batch | {"input_ids": batch["input_ids"][:, :1]}).order_logits is None
    model = make_model(sorter_layers=0)
    assert model(**batch).order_logits is None
    assert not any(key.startswith("sorter") for key in model.state_dict())


def test_sorter_follows_a_permutation_of_the_transcripts() -> None:
    model, batch = make_model(), make_batch()
    order = torch.tensor([2, 0, 3, 1])
    logits = model(**batch).order_logits
    shuffled = model(**batch | {"input_ids": batch["input_ids"][:, order]}).order_logits
    torch.testing.assert_close(shuffled, logits[:, order], rtol=1e-5, atol=1e-6)
    assert logits.std(1).min() > 1e-3  # and it does tell transcripts apart


def test_order_does_not_leak_from_the_place_in_the_batch() -> None:
    model, batch = make_model(), make_batch()
    same = batch["input_ids"][:, :1].expand(-1, 4, -1)
    logits = model(**batch | {"input_ids": same}).order_logits
    torch.testing.assert_close(logits, logits[:, :1].expand(-1, 4, -1), rtol=1e-5, atol=1e-6)
    order = torch.tensor([2, 0, 1])
    moved = model(**{key: value[order] for key, value in batch.items()}).order_logits
    torch.testing.assert_close(moved, model(**batch).order_logits[order], rtol=1e-5, atol=1e-6)


def test_sorting_does_not_move_the_text_tower() -> None:
    model = make_model()
    model(**make_batch()).order_logits.square().sum().backward()
    assert all(parameter.grad is None for parameter in model.text_model.parameters())
    assert model.text_projection.weight.grad is None
    assert model.vision_model.embeddings.patch_embedding.weight.grad.abs().max() > 0


def test_activation_checkpointing_changes_no_gradient() -> None:
    plain, batch = make_model().train(), make_batch()
    saving = copy.deepcopy(plain)
    saving.activation_checkpointing_enable()
    for model in (plain, saving):
        output = model(**batch)
        (output.order_logits.square().sum() + output.text_embeds.sum()).backward()
    assert sum(block.gradient_checkpointing for block in saving.blocks()) == 2 + 3 + 2
    for ours, expected in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad)


def test_half_precision_autocast_stays_close() -> None:
    model, batch = make_model(), make_batch()
    exact = model(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(**batch)
    assert torch.cosine_similarity(rough.video_embeds.float(), exact.video_embeds).min() > 0.999


VIDEO, IDS = make_batch()["video"], make_batch()["input_ids"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": VIDEO.transpose(1, 2)}, r"video: expected \[B, 1 to 5, 3, 32, 32\], got \[3, 3, 5, 32, 32\]"),
        ({"video": VIDEO.permute(0, 1, 3, 4, 2)}, r"video: expected .* got \[3, 5, 32, 32, 3\]"),
        ({"video": VIDEO.repeat(1, 2, 1, 1, 1)}, r"video: expected \[B, 1 to 5, .* got \[3, 10,"),
        ({"video": VIDEO[:, :0]}, r"video: expected \[B, 1 to 5, .* got \[3, 0,"),
        ({"video": VIDEO[..., :24]}, r"video: expected .* got \[3, 5, 3, 32, 24\]"),
        ({"video": VIDEO.byte()}, r"video: expected normalised floats, got torch.uint8; see normalize_frames"),
        ({"keep_indices": torch.zeros(3, 0, dtype=torch.long)}, r"keep_indices: expected \[3, 1 to 16\], got \[3, 0\]"),
        ({"keep_indices": torch.zeros(2, 4, dtype=torch.long)}, r"keep_indices: expected \[3, 1 to 16\], got \[2, 4\]"),
        ({"input_ids": None}, r"input_ids: expected \[3, K, L\] with K = 4 or 1, got nothing"),
        ({"input_ids": IDS[:, 0]}, r"input_ids: expected \[3, K, L\] with K = 4 or 1, got \[3, 12\]"),
        ({"input_ids": IDS[:, :3]}, r"input_ids: expected \[3, K, L\] with K = 4 or 1, got \[3, 3, 12\]"),
        ({"input_ids": IDS[:2]}, r"input_ids: expected \[3, K, L\] .* got \[2, 4, 12\]"),
        ({"input_ids": IDS.clamp(max=50)}, r"input_ids: a text has no end-of-text token \(99\)"),
        (
            {"input_ids": torch.cat([IDS.clamp(max=50), IDS], -1)},
            r"input_ids: 22 tokens, the text tower takes 20; truncate texts",
        ),
    ],
)
def test_wrong_input_is_told_in_one_line(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make_model()(**make_batch() | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_ratio": 0.99}, r"mask_ratio: 0.99 leaves 0 of 49 patches; allowed: 0 to 0.980"),
        ({"mask_ratio": -0.5}, r"mask_ratio: -0.5 leaves 73 of 49 patches"),
        ({"sorter_heads": 7}, r"sorter_heads: 7 does not divide projection_dim 512"),
    ],
)
def test_impossible_sizes_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TVTSConfig(**settings)


@pytest.mark.parametrize(("size", "ratio", "kept"), [(32, 0.0, 49), (16, 0.5, 98), (14, 0.7, 76)])
def test_kept_patches_are_the_papers(size: int, ratio: float, kept: int) -> None:
    assert TVTSConfig(vision_config={"patch_size": size}).kept_patches(ratio) == kept


def test_defaults_are_b32() -> None:
    with torch.device("meta"):
        model = TVTSModel(TVTSConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 185_962_244


def test_every_block_compiles_to_one_graph() -> None:
    plain, batch = make_model().train(), make_batch()
    compiled = copy.deepcopy(plain)
    for block in compiled.blocks():
        block.compile(fullgraph=True, backend="aot_eager")
    for model in (plain, compiled):
        output = model(**batch)
        (output.order_logits.square().sum() + output.text_embeds.sum()).backward()
    for ours, expected in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad)
