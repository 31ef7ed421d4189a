"""Miniature models and inputs."""

from pathlib import Path
from typing import Any

import torch

from tvts.model import TVTSConfig, TVTSModel

torch.set_num_threads(1)  # miniatures gain nothing from more, and lose much on a busy machine
GOLDEN = Path(__file__).parent / "golden"
EOS = 99
TEXT = {
    "vocab_size": 100,
    "bos_token_id": 98,
    "eos_token_id": EOS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
SIZES = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 40, "num_frames": 5, "sorter_heads": 4}


def make_model(**settings: Any) -> TVTSModel:
    """5 frames of 16 patches. Temporal attention is not at its zero start, so that time matters."""
    torch.manual_seed(0)
    model = TVTSModel(TVTSConfig(**(SIZES | settings))).eval()
    for layer in model.vision_model.encoder.layers:
        for parameter in layer.temporal_attn.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def make_batch(batch: int = 3, transcripts: int = 4, frames: int = 5, kept: int | None = 6) -> dict[str, Any]:
    """Texts differ in length and are padded with end-of-text to 12 tokens; the longest has 10."""
    generator = torch.Generator().manual_seed(1)
    ends = torch.randint(3, 10, (batch, transcripts, 1), generator=generator)
    ends[0, 0] = 9
    input_ids = torch.randint(0, 98, (batch, transcripts, 12), generator=generator)
    input_ids = input_ids.where(torch.arange(12) < ends, EOS)
    keep = torch.rand(batch, 16, generator=generator).argsort(1)[:, :kept] if kept else None
    video = torch.randn(batch, frames, 3, 32, 32, generator=generator)
    return {"video": video, "keep_indices": keep, "input_ids": input_ids}
