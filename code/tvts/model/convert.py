"""Weights from elsewhere: CLIP folders, and the official TVTSv2 checkpoints in both directions."""

import contextlib
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig
from transformers.initialization import no_init_weights
from transformers.utils import logging

from .configuration import TVTSConfig
from .modeling import TVTSModel
from .processing import TVTSProcessor
from .tuning import NEW_PARTS

Style = Literal["openai", "openclip"]
ACTIVATIONS = {"openai": "quick_gelu", "openclip": "gelu"}


def from_clip(folder: str | Path, **overrides: Any) -> TVTSModel:
    """A TVTS model that starts from a CLIP folder, as `CLIPModel.save_pretrained` writes it (OpenAI's, LAION's, ...).

    `overrides` are fields of `TVTSConfig`; `clip_style` defaults to "openai" for towers with quick_gelu, else
    "openclip". New parts are drawn from torch's generator; temporal attention starts at exactly zero.
    Raises ValueError when the folder holds no CLIP.
    """
    clip = _clip_config(Path(folder))
    config = TVTSConfig(
        text_config=clip.text_config.to_dict(),
        vision_config=clip.vision_config.to_dict(),
        projection_dim=clip.projection_dim,
        **{"clip_style": _style(clip), **overrides},
    )
    with _only_errors():
        try:
            model, report = TVTSModel.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True
            )
        except OSError:
            raise ValueError(f"{folder}: expected CLIP's weights (model.safetensors) beside config.json") from None
    _compare(str(folder), {*model.state_dict()} - report["missing_keys"] | report["unexpected_keys"], _clip_born(model))
    return model


def _clip_config(folder: Path) -> CLIPConfig:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, KeyError, ValueError):
        raise ValueError(f"{folder}: expected a CLIP folder, but there is no readable config.json") from None
    if kind != "clip":
        raise ValueError(f"{folder}: expected a CLIP folder, but it holds a model of type {kind!r}")
    return CLIPConfig.from_pretrained(folder)


def _style(clip: CLIPConfig) -> Style:
    return "openai" if clip.vision_config.hidden_act == ACTIVATIONS["openai"] else "openclip"


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """Keep transformers from listing the new parts as missing: `from_clip` does its own accounting."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _clip_born(model: TVTSModel) -> set[str]:
    return {key for key in model.state_dict() if not any(part in key for part in (*NEW_PARTS, "temporal_embedding"))}


class Pair(NamedTuple):
    """An official tensor and ours that it is made of: `parts` stacked along rows, then possibly transposed."""

    official: str
    parts: tuple[str, ...]
    transposed: bool = False

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Official -> ours."""
        if self.official.endswith("type_embed"):
            tensor = tensor[0]
        return [x.contiguous() for x in (tensor.T if self.transposed else tensor).chunk(len(self.parts))]

    def join(self, tensors: list[Tensor]) -> Tensor:
        """Ours -> official."""
        tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        if self.official.endswith("type_embed"):
            tensor = tensor[None]
        return (tensor.T if self.transposed else tensor).contiguous()


def _pairs(config: TVTSConfig) -> Iterator[Pair]:
    """Every tensor of an official checkpoint of this size, in both namings."""

    def affine(official: str, ours: str) -> Iterator[Pair]:
        for kind in ("weight", "bias"):
            yield Pair(f"{official}.{kind}", (f"{ours}.{kind}",))

    def attention(official: str, ours: str, fused: str, out: str) -> Iterator[Pair]:
        for kind in ("weight", "bias"):
            qkv = tuple(f"{ours}.{name}_proj.{kind}" for name in "qkv")
            yield Pair(f"{official}.{fused}{kind}", qkv)
        yield from affine(f"{official}.{out}", f"{ours}.out_proj")

    def block(official: str, ours: str, *, norms: tuple[str, str], mlp: tuple[str, str]) -> Iterator[Pair]:
        for i in (0, 1):
            yield from affine(f"{official}.{norms[i]}", f"{ours}.layer_norm{i + 1}")
            yield from affine(f"{official}.mlp.{mlp[i]}", f"{ours}.mlp.fc{i + 1}")

    clip_block = {"norms": ("ln_1", "ln_2"), "mlp": ("c_fc", "c_proj")}
    yield Pair("text_token_embedding.weight", ("text_model.embeddings.token_embedding.weight",))
    yield Pair("text_positional_embedding", ("text_model.embeddings.position_embedding.weight",))
    yield from affine("text_ln_final", "text_model.final_layer_norm")
    yield Pair("text_projection", ("text_projection.weight",), transposed=True)
    for i in range(config.text_config.num_hidden_layers):
        official, ours = f"text_model.resblocks.{i}", f"text_model.encoder.layers.{i}"
        yield from attention(f"{official}.attn", f"{ours}.self_attn", "in_proj_", "out_proj")
        yield from block(official, ours, **clip_block)

    yield Pair("video_model.class_embedding", ("vision_model.embeddings.class_embedding",))
    yield Pair("video_model.conv1.weight", ("vision_model.embeddings.patch_embedding.weight",))
    yield Pair("video_model.positional_embedding", ("vision_model.embeddings.position_embedding.weight",))
    yield Pair("video_model.temporal_embedding", ("vision_model.embeddings.temporal_embedding",))
    yield from affine("video_model.ln_pre", "vision_model.pre_layrnorm")
    yield from affine("video_model.ln_post", "vision_model.post_layernorm")
    yield Pair("video_model.proj", ("visual_projection.weight",), transposed=True)
    for i in range(config.vision_config.num_hidden_layers):
        official, ours = f"video_model.transformer.resblocks.{i}", f"vision_model.encoder.layers.{i}"
        yield from attention(f"{official}.attn", f"{ours}.self_attn", "qkv.", "proj")
        yield from attention(f"{official}.timeattn", f"{ours}.temporal_attn", "qkv.", "proj")
        yield from affine(f"{official}.ln_3", f"{ours}.layer_norm3")
        yield from block(official, ours, **clip_block)

    if config.sorter_layers:
        yield Pair("pred_model.type_embed", ("sorter.type_embedding",))
        yield from affine("pred_model.norm", "sorter.layer_norm")
        yield from affine("pred_model.head", "sorter.head")
    for i in range(config.sorter_layers):
        official, ours = f"pred_model.blocks.{i}", f"sorter.layers.{i}"
        yield from attention(f"{official}.attn", f"{ours}.self_attn", "qkv.", "proj")
        yield from block(official, ours, norms=("norm1", "norm2"), mlp=("fc1", "fc2"))


def from_official(
    state_dict: Mapping[str, Tensor],
    *,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    sorter_heads: int | None = None,
    clip_style: Style = "openai",
    mask_ratio: float = 0.0,
) -> TVTSModel:
    """A model from an official state dict, with or without `module.` prefix and sorter (`pred_model.*`).

    Sizes follow from the shapes; heads, which shapes do not tell, default to width / 64 (H/14's vision tower has 16).
    Tensors that need no rearranging are shared, not copied; tensors on the meta device give a model there.
    Raises ValueError when a key is missing or unexpected.
    """
    official = _without_prefix(state_dict)
    try:
        config = _infer_config(official, vision_heads, text_heads, sorter_heads, clip_style, mask_ratio)
    except KeyError as error:
        raise ValueError(f"not an official TVTSv2 state dict: it has no {error}") from None
    pairs = list(_pairs(config))
    _compare("official state dict", official.keys(), {pair.official for pair in pairs})
    ours: dict[str, Tensor] = {}
    for pair in pairs:
        ours |= zip(pair.parts, pair.split(official[pair.official]), strict=True)
    with official["text_projection"].device, no_init_weights():
        model = TVTSModel(config)
    model.load_state_dict(ours, assign=True)
    return model.eval()


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def to_official(model: TVTSModel, prefix: str = "") -> dict[str, Tensor]:
    """The official state dict of `model`; `prefix="module."` writes the keys as the official trainer does."""
    ours = model.state_dict()
    pairs = list(_pairs(model.config))
    _compare("model", ours.keys(), {part for pair in pairs for part in pair.parts})
    return {prefix + pair.official: pair.join([ours[part] for part in pair.parts]) for pair in pairs}


def _compare(what: str, given: Any, expected: Any) -> None:
    missing, unexpected = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if missing or unexpected:
        counts = f"{len(missing)} keys missing, {len(unexpected)} unexpected"
        raise ValueError(f"{what}: {counts}, such as {', '.join([*missing[:2], *unexpected[:2]])}")


def _infer_config(
    official: Mapping[str, Tensor],
    vision_heads: int | None,
    text_heads: int | None,
    sorter_heads: int | None,
    clip_style: Style,
    mask_ratio: float,
) -> TVTSConfig:
    def shape(key: str) -> torch.Size:
        return official[key].shape

    def depth(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in official if key.startswith(prefix)})

    vocabulary, text_width = shape("text_token_embedding.weight")
    width, _, patch, _ = shape("video_model.conv1.weight")
    activation = ACTIVATIONS[clip_style]
    return TVTSConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": shape("text_model.resblocks.0.mlp.c_fc.weight")[0],
            "num_hidden_layers": depth("text_model.resblocks."),
            "num_attention_heads": text_heads or max(1, text_width // 64),
            "max_position_embeddings": shape("text_positional_embedding")[0],
            "hidden_act": activation,
            "eos_token_id": vocabulary - 1,
            "bos_token_id": vocabulary - 2,
        },
        vision_config={
            "hidden_size": width,
            "intermediate_size": shape("video_model.transformer.resblocks.0.mlp.c_fc.weight")[0],
            "num_hidden_layers": depth("video_model.transformer.resblocks."),
            "num_attention_heads": vision_heads or max(1, width // 64),
            "image_size": patch * round((shape("video_model.positional_embedding")[0] - 1) ** 0.5),
            "patch_size": patch,
            "hidden_act": activation,
        },
        projection_dim=shape("text_projection")[1],
        num_frames=shape("video_model.temporal_embedding")[0],
        num_transcripts=shape("pred_model.head.weight")[0] if "pred_model.head.weight" in official else 4,
        sorter_layers=depth("pred_model.blocks."),
        sorter_heads=sorter_heads,
        clip_style=clip_style,
        mask_ratio=mask_ratio,
    )


def convert_checkpoint(path: str | Path, output_dir: str | Path, clip: str | Path, **options: Any) -> TVTSModel:
    """Turn a released TVTSv2 file (.pth, or .safetensors) into a folder for `from_pretrained`, processor included.

    clip: folder of the CLIP that the checkpoint started from; it tells the heads and the style, and has the tokenizer.
    options: of `from_official`, over what `clip` tells. Raises ValueError when the file is missing, holds more than
    tensors, or has other keys than TVTSv2's.
    """
    origin = _clip_config(Path(clip))
    told = {
        "vision_heads": origin.vision_config.num_attention_heads,
        "text_heads": origin.text_config.num_attention_heads,
        "clip_style": _style(origin),
    }
    model = from_official(_read_state(Path(path)), **(told | options))
    processor = TVTSProcessor(AutoTokenizer.from_pretrained(clip), model.config.vision_config.image_size)
    model.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    return model


def _read_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint file")
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: not opened, its pickle holds more than tensors; if you trust the file, "
            "save its `state_dict` alone with torch.save and convert that"
        ) from None
    except (RuntimeError, EOFError, LookupError):
        raise ValueError(f"{path}: not a PyTorch checkpoint, or damaged") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a state dict, got a {type(content).__name__}")
    return content.get("state_dict", content)
