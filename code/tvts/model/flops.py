"""Work of a training step in FLOPs, and what accelerators can do: the two sides of MFU (model FLOPs utilisation)."""

import copy
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .configuration import TVTSConfig
from .modeling import TVTSModel
from .tuning import set_trainable

TEXT_TOKENS = 40
"""Tokens of the longest transcript in a batch: about 10 seconds of speech."""

PEAK_TFLOPS = {
    "H100": {"bf16": 989.4, "fp32": 66.9},
    "H200": {"bf16": 989.4, "fp32": 66.9},
    "A100": {"bf16": 312.0, "fp32": 19.5},
    "L40S": {"bf16": 362.0, "fp32": 91.6},
}
"""Dense peaks from the vendor's data sheets (SXM; fp32 without TF32)."""


class Clips(TypedDict):
    """A batch as the model takes it."""

    video: Tensor
    keep_indices: Tensor | None
    input_ids: Tensor


def random_clips(config: TVTSConfig, batch: int) -> Clips:
    """On the default device; every transcript is as long as the longest, so nothing is trimmed."""
    side, text = config.vision_config.image_size, config.text_config
    tokens = min(TEXT_TOKENS, text.max_position_embeddings)
    input_ids = torch.randint(text.vocab_size - 2, (batch, config.num_transcripts, tokens))
    input_ids[..., -1] = text.eos_token_id
    kept = config.kept_patches(config.mask_ratio)
    return {
        "video": torch.randn(batch, config.num_frames, 3, side, side),
        "keep_indices": torch.rand(batch, config.num_patches).argsort(1)[:, :kept] if config.mask_ratio else None,
        "input_ids": input_ids,
    }


def training_gflop(config: TVTSConfig, frozen_blocks: int | Literal["all"], **trained: Any) -> float:
    """GFLOP of forward and backward of one clip: all matrix products, counted on the meta device, where nothing is computed.

    Explicit attention, so that every product is seen; recomputation (activation checkpointing) does not count.
    `trained`: `train_embeddings` and `train_final` of `set_trainable`.
    """
    with torch.device("meta"):
        model = TVTSModel(copy.deepcopy(config)).train()
        set_trainable(model, frozen_blocks, **trained)
        model.set_attn_implementation("eager")
        clips = random_clips(config, 1)
        with FlopCounterMode(display=False) as counter:
            output = model(**clips)
            total = output.video_embeds.sum() + output.text_embeds.sum()
            if output.order_logits is not None:
                total = total + output.order_logits.sum()
            total.backward()
    return counter.get_total_flops() / 1e9


def peak_tflops(precision: str) -> float | None:
    """Dense peak of the current CUDA device; None for one that is not in the table, and without CUDA."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peaks[precision] for card, peaks in PEAK_TFLOPS.items() if card in name), None)
