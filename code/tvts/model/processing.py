"""From frames and text to the model's input: resize, crop, statistics, tokens."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin


class Pixels(NamedTuple):
    """How frames become pixels: short side = int(`scale` * image size), `filter`, centre crop, then statistics."""

    scale: float
    filter: Literal["nearest", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


PIXELS = {
    # the official evaluation: ImageNet's statistics, although the towers start from CLIP
    "official": Pixels(1.2, "nearest", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": Pixels(1.0, "bicubic", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


def normalize_frames(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 frames [..., 3, H, W] -> float32, (frames / 255 - mean) / std per channel, on the frames' device."""
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), frames.device)
    return frames * scale - shift


@functools.cache
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Made once: a copy of new numbers to a GPU would wait for all that it is computing."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)[:, None, None]
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device)[:, None, None]
    return scale, shift


def resize_and_crop(frames: Tensor, image_size: int, pixels: Pixels) -> Tensor:
    """uint8 frames [T, 3, H, W] -> [T, 3, image_size, image_size]: short side scaled, then the centre cut out, as PIL does."""
    short, smaller = int(image_size * pixels.scale), min(frames.shape[-2:])
    height, width = (int(short * side / smaller) for side in frames.shape[-2:])
    top, left = (round((side - image_size) / 2) for side in (height, width))
    rows, columns = slice(top, top + image_size), slice(left, left + image_size)
    if pixels.filter == "nearest":
        return frames[..., _nearest(frames.shape[-2], height)[rows, None], _nearest(frames.shape[-1], width)[columns]]
    return F.interpolate(frames, (height, width), mode=pixels.filter, antialias=True)[..., rows, columns]


def _nearest(given: int, wanted: int) -> Tensor:
    """Source index of each pixel under PIL's nearest resize, which adds up the step in float64."""
    steps = np.full(wanted, given / wanted)
    steps[0] /= 2
    return torch.from_numpy(np.add.accumulate(steps).astype(np.int64))


class TVTSProcessor(ProcessorMixin):
    """Videos and texts for `TVTSModel`.

    tokenizer: CLIP's.
    image_size: side of the model's square frames, in pixels.
    pixels: "official" (short side 1.2 x image size, nearest, ImageNet's statistics) or "clip" (1 x, bicubic, CLIP's).
    context_length: longest text in tokens; longer ones are cut, end-of-text kept.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int = 224,
        pixels: Literal["official", "clip"] = "official",
        context_length: int = 77,
    ):
        if pixels not in PIXELS:
            raise ValueError(f"pixels: got {pixels!r}; allowed: {', '.join(PIXELS)}")
        self.image_size = image_size
        self.pixels = pixels
        self.context_length = context_length
        super().__init__(tokenizer)

    def __call__(self, videos: Any = None, text: Any = None) -> BatchFeature:
        """`video` [B, T, 3, S, S] float32 and `input_ids` [B, L], or [B, K, L] for K texts per video.

        videos: one or a list, each uint8 [T, H, W, 3] (array or tensor) or a list of T PIL images; the same T in all.
        text: a string, a list of strings, or a list of lists of K strings. Raises ValueError for other forms.
        """
        data = {}
        if videos is not None:
            data["video"] = torch.stack([self._video(video) for video in _as_batch(videos)])
        if text is not None:
            data["input_ids"] = self._tokens(text)
        return BatchFeature(data)

    def _video(self, frames: Any) -> Tensor:
        array = frames if isinstance(frames, Tensor) else np.stack([np.asarray(frame) for frame in frames])
        video = torch.as_tensor(array)
        if video.dim() != 4 or video.shape[-1] != 3 or video.dtype != torch.uint8:
            raise ValueError(
                f"videos: expected uint8 RGB frames [T, H, W, 3], got {str(video.dtype)[6:]} {list(video.shape)}"
            )
        pixels = PIXELS[self.pixels]
        cropped = resize_and_crop(video.permute(0, 3, 1, 2), self.image_size, pixels)
        return normalize_frames(cropped, pixels.mean, pixels.std)

    def _tokens(self, text: str | list[str] | list[list[str]]) -> Tensor:
        texts = [text] if isinstance(text, str) else text
        grouped = not isinstance(texts[0], str)
        flat = [one for group in texts for one in group] if grouped else texts
        if grouped and len({len(group) for group in texts}) > 1:
            raise ValueError("text: every video needs the same number of texts")
        tokens = self.tokenizer(
            flat, padding=True, truncation=True, max_length=self.context_length, return_tensors="pt"
        )
        return tokens["input_ids"].unflatten(0, (len(texts), -1)) if grouped else tokens["input_ids"]


def _as_batch(videos: Any) -> Any:
    """A single video (4-D, or a list of images) becomes a batch of one."""
    if isinstance(videos, (np.ndarray, Tensor)):
        return videos if videos.ndim == 5 else [videos]
    single_frame = np.ndim(videos[0]) == 3 or hasattr(videos[0], "convert")  # `convert`: a PIL image
    return [videos] if single_frame else videos


TVTSProcessor.register_for_auto_class()
