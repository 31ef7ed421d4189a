"""Saving, loading and starting values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.model.conftest import make_batch, make_model
from transformers import AutoConfig, AutoModel, AutoProcessor

from tvts.model import TVTSModel, TVTSProcessor, from_clip


def test_saved_model_loads_alike_through_every_door(tmp_path: Path) -> None:
    model, batch = make_model(clip_style="openclip", mask_ratio=0.5), make_batch()
    model.save_pretrained(tmp_path)
    expected = model(**batch)
    for loaded in (TVTSModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is TVTSModel
        assert (loaded.config.clip_style, loaded.config.mask_ratio, loaded.config.num_frames) == ("openclip", 0.5, 5)
        output = loaded(**batch)
        assert all(torch.equal(output[key], expected[key]) for key in expected)
    assert AutoConfig.from_pretrained(tmp_path).clip_style == "openclip"


def test_sorter_can_be_left_out_when_loading(tmp_path: Path) -> None:
    model, batch = make_model(), make_batch()
    model.save_pretrained(tmp_path)
    encoder, report = TVTSModel.from_pretrained(tmp_path, sorter_layers=0, output_loading_info=True)
    assert encoder.sorter is None and not report["missing_keys"]
    assert all(key.startswith("sorter.") for key in report["unexpected_keys"])
    assert torch.equal(encoder(**batch).video_embeds, model(**batch).video_embeds)


REMOTE = """
import sys, torch
sys.modules["tvts"] = None  # as if not installed
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
data = load_file(sys.argv[2])
with torch.no_grad():
    output = model(data["video"], data["keep_indices"], data["input_ids"])
torch.testing.assert_close(output.order_logits, data["order_logits"])
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
inputs = processor(videos=torch.zeros(3, 40, 50, 3, dtype=torch.uint8), text=["a b"])
assert inputs["video"].shape == (1, 3, 3, 32, 32)
"""


def test_remote_code_loads_in_a_fresh_process_without_the_package(tmp_path: Path, clip_folder: Path) -> None:
    model, batch, folder = make_model(), make_batch(), tmp_path / "model"
    model.save_pretrained(folder)
    processor = TVTSProcessor.from_pretrained(clip_folder, image_size=32)
    processor.save_pretrained(folder)
    with torch.no_grad():
        expected = {"order_logits": model(**batch).order_logits}
    data = tmp_path / "data.safetensors"
    save_file({key: value.contiguous() for key, value in (batch | expected).items()}, data)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", REMOTE, str(folder), str(data)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_processor_is_found_by_auto_class(tmp_path: Path, clip_folder: Path) -> None:
    make_model().save_pretrained(tmp_path)
    TVTSProcessor.from_pretrained(clip_folder, image_size=32, pixels="clip", context_length=9).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is TVTSProcessor
    assert (processor.image_size, processor.pixels, processor.context_length) == (32, "clip", 9)


@pytest.mark.parametrize("origin", ["scratch", "clip"])
def test_new_parts_start_as_the_official_ones(origin: str, clip_folder: Path) -> None:
    """After `from_pretrained` too, where transformers initialises only what is missing."""
    torch.manual_seed(0)
    model = from_clip(clip_folder) if origin == "clip" else TVTSModel(from_clip(clip_folder).config)
    hidden = torch.randn(2, 1 + 12 * 4, 32)
    for layer in model.vision_model.encoder.layers:
        assert layer.temporal_attn(hidden, 12, "time").abs().max() == 0
        assert layer.temporal_attn.out_proj.weight.eq(1).all()
        assert layer.layer_norm3.weight.eq(1).all() and layer.layer_norm3.bias.eq(0).all()
    assert model.vision_model.embeddings.temporal_embedding.std().item() == pytest.approx(32**-0.5, rel=0.2)
    assert model.sorter.type_embedding.eq(0).all()
    fc1 = model.sorter.layers[0].mlp.fc1  # PyTorch's own initialisation: uniform in +- 1 / sqrt(inputs)
    assert fc1.weight.abs().max().item() == pytest.approx(32**-0.5, rel=0.05)
    assert fc1.bias.abs().max().item() == pytest.approx(32**-0.5, rel=0.1)


def test_temporal_attention_can_leave_its_zero_start(clip_folder: Path) -> None:
    torch.manual_seed(0)
    model = from_clip(clip_folder)
    model.get_video_features(torch.randn(2, 12, 3, 32, 32)).square().sum().backward()
    temporal = model.vision_model.encoder.layers[0].temporal_attn
    assert temporal.v_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize(("start", "learns"), [("official", {"v_proj"}), ("random", {"q_proj", "k_proj", "v_proj"})])
def test_the_official_start_is_a_saddle_for_queries_and_keys(clip_folder: Path, start: str, learns: set[str]) -> None:
    """From zeros, queries and keys are each other's gradient and stay zero; from the random start all projections learn."""
    torch.manual_seed(0)
    model = from_clip(clip_folder, temporal_attention_init=start)
    layers = [layer.temporal_attn for layer in model.vision_model.encoder.layers]
    assert all(layer(torch.randn(2, 1 + 12 * 4, 32), 12, "time").abs().max() == 0 for layer in layers)
    before = [{name: tensor.clone() for name, tensor in layer.state_dict().items()} for layer in layers]
    optimizer = torch.optim.SGD([parameter for layer in layers for parameter in layer.parameters()], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model.get_video_features(torch.randn(2, 12, 3, 32, 32)).square().sum().backward()
        optimizer.step()
    moved = {
        name
        for layer, was in zip(layers, before, strict=True)
        for name in ("q_proj", "k_proj", "v_proj")
        if not torch.equal(layer.state_dict()[f"{name}.weight"], was[f"{name}.weight"])
    }
    assert moved == learns


def test_random_parts_follow_the_seed(clip_folder: Path) -> None:
    def sorter(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return from_clip(clip_folder).sorter.head.weight

    assert torch.equal(sorter(1), sorter(1))
    assert not torch.equal(sorter(1), sorter(2))
