"""Frozen encoders behind one small interface: TVTS, and the CLIP baseline that averages frame features."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import ftfy
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer, PreTrainedConfig

from tvts.config import UserError
from tvts.files import sha256_file, sha256_json
from tvts.model import TVTSModel, TVTSProcessor, trim_text


class Encoder(Protocol):
    """What `embed` needs of a model. Features are not normalised."""

    model: TVTSModel | CLIPModel
    """Both hold CLIP's `text_model` and `text_projection`."""
    image_size: int
    """Side of its square frames, pixels."""

    def video(self, pixels: Tensor, real: Tensor) -> Tensor:
        """Normalised pixels [B, T, 3, S, S], real frames [B, T] -> [B, E]."""

    def tokens(self, texts: list[str]) -> Tensor:
        """B texts -> token ids [B, L], cleaned, cut to the tower's context, on the model's device."""

    def text(self, texts: list[str]) -> Tensor:
        """B texts -> [B, E]."""


AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)


def load_encoder(folder: Path, kind: Literal["tvts", "clip"], frames: int, device: torch.device) -> Encoder:
    """The model in a `save_pretrained` folder, for videos of `frames` frames.

    Raises UserError if the folder is not of that kind.
    """
    return load_tvts(folder, frames, device) if kind == "tvts" else _loaded(folder, kind, FrameMeanEncoder, device)


def load_tvts(folder: Path, frames: int, device: torch.device) -> "TVTSEncoder":
    """The TVTS model in a `save_pretrained` folder. Raises UserError for any other folder."""
    return _loaded(folder, "tvts", TVTSEncoder, frames, device)


def _loaded(folder: Path, kind: str, make: Callable[..., AnyEncoder], *settings: Any) -> AnyEncoder:
    try:
        _check_kind(folder, kind)
        return make(folder, *settings)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: not a {kind} model folder with weights and tokenizer: {_first_line(error)}"
        ) from None


class TVTSEncoder:
    """The trained model: divided space-time attention over all slots, padded ones included (protocol 1.2), no mask."""

    def __init__(self, folder: Path, frames: int, device: torch.device) -> None:
        self.model = TVTSModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
        self.processor = TVTSProcessor.from_pretrained(folder)
        self.image_size = self.model.config.vision_config.image_size
        if frames > self.model.config.num_frames:
            raise ValueError(f"it takes up to {self.model.config.num_frames} frames, {frames} were asked for")

    def video(self, pixels: Tensor, real: Tensor) -> Tensor:
        """See Encoder."""
        return self.model.get_video_features(pixels)

    def tokens(self, texts: list[str]) -> Tensor:
        """See Encoder."""
        ids = self.processor(text=[clean_text(text) for text in texts])["input_ids"]
        return trim_text(ids, self.model.config.text_config.eos_token_id).to(self.model.device)

    def text(self, texts: list[str]) -> Tensor:
        """See Encoder."""
        return self.model.get_text_features(self.tokens(texts))


class FrameMeanEncoder:
    """CLIP without time: the mean of L2-normalised features of the real frames (CLIP4Clip's parameter-free `meanP`)."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.image_size = self.model.config.vision_config.image_size
        self.context = self.model.config.text_config.max_position_embeddings

    def video(self, pixels: Tensor, real: Tensor) -> Tensor:
        """See Encoder."""
        features = self.model.get_image_features(pixels.flatten(0, 1)).pooler_output
        frames = F.normalize(features, dim=-1).unflatten(0, pixels.shape[:2]) * real[:, :, None]
        return frames.sum(1) / real.sum(1, keepdim=True)

    def tokens(self, texts: list[str]) -> Tensor:
        """See Encoder."""
        tokens = self.tokenizer(
            [clean_text(text) for text in texts],
            padding=True, truncation=True, max_length=self.context, return_tensors="pt",
        )  # fmt: skip
        return tokens["input_ids"].to(self.model.device)

    def text(self, texts: list[str]) -> Tensor:
        """See Encoder."""
        return self.model.get_text_features(self.tokens(texts)).pooler_output


def clean_text(text: str) -> str:
    """CLIP's cleaning before its BPE: mojibake fixed, HTML entities unescaped twice (the tokenizer lower-cases and
    collapses blanks).
    """
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def model_hash(folder: Path) -> str:
    """Hash of a model folder's files, by name and content; what is written about the model (its card) does not count."""
    files = (
        path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix != ".md" and path.name[0] != "."
    )
    return sha256_json({path.name: sha256_file(path) for path in files})


def _check_kind(folder: Path, kind: str) -> None:
    """transformers would look for a folder that is not there on a hub, and fill what another kind of model lacks with random weights."""
    if not (folder / "config.json").is_file():
        raise ValueError("there is no config.json in it")
    found = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
    if found != kind:
        raise ValueError(f"its config.json says model_type {found!r}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
