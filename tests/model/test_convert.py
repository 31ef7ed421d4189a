"""CLIP folders and official checkpoints: what loads, and what is refused."""

import json
import pathlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.conftest import GOLDEN, TEXT, VISION, make_model
from transformers import AutoModel, AutoProcessor, CLIPConfig, CLIPModel

from tvts.model import TVTSModel, convert_checkpoint, from_clip, from_official, to_official


@pytest.fixture(scope="module")
def laion_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As LAION's H/14: exact GELU, and the towers keep a stale projection_dim of 512."""
    torch.manual_seed(0)
    gelu = {"hidden_act": "gelu"}
    folder = tmp_path_factory.mktemp("laion")
    CLIPModel(CLIPConfig(text_config=TEXT | gelu, vision_config=VISION | gelu, projection_dim=40)).save_pretrained(
        folder
    )
    stored = json.loads((folder / "config.json").read_text())
    assert stored["text_config"]["projection_dim"] == stored["vision_config"]["projection_dim"] == 512
    return folder


@pytest.mark.parametrize("folder", ["clip_folder", "laion_folder"])
def test_one_frame_gives_clips_embeddings(folder: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(folder)
    clip, model = CLIPModel.from_pretrained(path).eval(), from_clip(path, temporal_embedding_std=0.0)
    assert model.config.clip_style == {"clip_folder": "openai", "laion_folder": "openclip"}[folder]
    torch.manual_seed(0)
    image = torch.randn(3, 3, 32, 32)
    ids = torch.randint(0, model.config.text_config.bos_token_id, (3, 9))
    ids[:, -1] = model.config.text_config.eos_token_id
    with torch.no_grad():
        expected_image, expected_text = (
            clip.get_image_features(image).pooler_output,
            clip.get_text_features(ids).pooler_output,
        )
        assert (
            model.get_video_features(image[:, None]) - expected_image
        ).abs().max() <= 1e-6 * expected_image.abs().max()
        torch.testing.assert_close(model.get_text_features(ids), expected_text)


def test_overrides_reach_the_config(clip_folder: Path) -> None:
    model = from_clip(clip_folder, num_frames=6, mask_ratio=0.5, clip_style="openclip", sorter_layers=1)
    assert model.vision_model.embeddings.temporal_embedding.shape == (6, 32)
    assert (model.config.mask_ratio, model.config.clip_style, len(model.sorter.layers)) == (0.5, "openclip", 1)
    assert not model.training and model.dtype == torch.float32


def rewrite(source: Path, target: Path, change) -> Path:
    weights = load_file(source / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    return target


def test_old_position_ids_are_welcome(clip_folder: Path, tmp_path: Path) -> None:
    ids = {f"{tower}_model.embeddings.position_ids": torch.arange(5)[None] for tower in ("text", "vision")}
    from_clip(rewrite(clip_folder, tmp_path, lambda weights: weights.update(ids)))


def test_a_clip_with_keys_lost_or_added_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    key = "text_model.encoder.layers.0.mlp.fc1.weight"
    with pytest.raises(ValueError, match=rf"{tmp_path}: 1 keys missing, 0 unexpected, such as {key}"):
        from_clip(rewrite(clip_folder, tmp_path, lambda weights: weights.pop(key)))
    with pytest.raises(ValueError, match="0 keys missing, 1 unexpected, such as stranger"):
        from_clip(rewrite(clip_folder, tmp_path, lambda weights: weights.update(stranger=torch.ones(1))))


def test_a_folder_that_is_not_a_clip_is_refused_in_one_line(clip_folder: Path, tmp_path: Path) -> None:
    cases = {
        "expected a CLIP folder, but there is no readable config.json": lambda: None,
        "expected a CLIP folder, but it holds a model of type 'bert'": lambda: (tmp_path / "config.json").write_text(
            '{"model_type": "bert"}'
        ),
        r"expected CLIP's weights \(model.safetensors\) beside config.json": lambda: (
            tmp_path / "config.json"
        ).write_bytes((clip_folder / "config.json").read_bytes()),
    }
    for message, prepare in cases.items():
        prepare()
        with pytest.raises(ValueError, match=message) as error:
            from_clip(tmp_path)
        assert "\n" not in str(error.value)


def test_official_names_of_a_model_without_sorter() -> None:
    model = make_model(sorter_layers=0)
    state = to_official(model)
    assert not any(key.startswith("pred_model") for key in state)
    back = from_official(state, vision_heads=4, text_heads=4)
    assert back.sorter is None
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("module.pred_model.head.bias"), "1 keys missing, 0 unexpected, such as pred_model.head.bias"),
        (lambda s: s.update(extra=torch.ones(1)), "0 keys missing, 1 unexpected, such as extra"),
        (lambda s: s.clear(), "not an official TVTSv2 state dict: it has no 'text_token_embedding.weight'"),
    ],
)
def test_official_keys_are_accounted_for(change, message: str) -> None:
    state = load_file(GOLDEN / "clip_style.checkpoint.safetensors")
    change(state)
    with pytest.raises(ValueError, match=message):
        from_official(state)


def test_a_released_file_becomes_a_folder(tmp_path: Path, clip_folder: Path) -> None:
    """The CLIP that it started from tells what shapes do not: heads, style, activation, tokenizer."""
    source = make_model(num_frames=12, **from_clip_sizes(clip_folder))
    torch.save({"arch": "TVTSv2", "epoch": 10, "state_dict": to_official(source, "module.")}, tmp_path / "released.pth")
    convert_checkpoint(tmp_path / "released.pth", tmp_path / "folder", clip_folder, mask_ratio=0.5, sorter_heads=4)
    model, processor = (
        AutoModel.from_pretrained(tmp_path / "folder"),
        AutoProcessor.from_pretrained(tmp_path / "folder"),
    )
    assert type(model) is TVTSModel and model.config.mask_ratio == 0.5
    inputs = processor(videos=torch.zeros(5, 40, 40, 3, dtype=torch.uint8), text=[["a", "b c", "d", "e"]])
    output, expected = model(**inputs), source(**inputs)
    assert all(torch.equal(output[key], expected[key]) for key in expected)


def from_clip_sizes(folder: Path) -> dict:
    clip = CLIPConfig.from_pretrained(folder)
    towers = {"text_config": clip.text_config.to_dict(), "vision_config": clip.vision_config.to_dict()}
    return towers | {"projection_dim": clip.projection_dim}


def test_style_and_activation_follow_the_clip_folder(tmp_path: Path, laion_folder: Path, clip_folder: Path) -> None:
    save_file(to_official(make_model()), tmp_path / "released.safetensors")
    for file in clip_folder.glob("tokenizer*"):
        (laion_folder / file.name).write_bytes(file.read_bytes())
    config = convert_checkpoint(tmp_path / "released.safetensors", tmp_path / "folder", laion_folder).config
    assert (config.clip_style, config.vision_config.num_attention_heads) == ("openclip", 4)
    assert config.vision_config.hidden_act == config.text_config.hidden_act == "gelu"


def test_files_that_are_no_checkpoint_are_refused_in_one_line(tmp_path: Path, clip_folder: Path) -> None:
    path = tmp_path / "file.pth"
    contents = {
        "not opened, its pickle holds more than tensors": lambda: torch.save(
            {"config": pathlib.PurePosixPath("x")}, path
        ),
        "no such checkpoint file": path.unlink,
        "not a PyTorch checkpoint": lambda: path.write_bytes(b""),
        "expected a state dict, got a list": lambda: torch.save([1, 2, 3], path),
        "not an official TVTSv2 state dict": lambda: torch.save({"weight": torch.ones(1)}, path),
    }
    for message, write in contents.items():
        write()
        with pytest.raises(ValueError, match=message) as error:
            convert_checkpoint(path, tmp_path / "folder", clip_folder)
        assert "\n" not in str(error.value)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="not a PyTorch checkpoint, or damaged"):
        convert_checkpoint(path, tmp_path / "folder", clip_folder)
    assert not (tmp_path / "folder").exists()
