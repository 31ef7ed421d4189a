"""From a collated batch in host memory to what the model takes, on the device."""

import contextlib
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from tvts.model.processing import PIXELS, normalize_frames


class Inputs(TypedDict):
    """On the device: `video` [B, T, 3, S, S] normalised, `keep_indices` [B, n] or None, `input_ids` [B, K, L], `positions` [B, K]."""

    video: Tensor
    keep_indices: Tensor | None
    input_ids: Tensor
    positions: Tensor


class ToDevice:
    """Moves batches. On a GPU they travel on a stream of their own, while the step before is still computed; frames travel as
    uint8 and are normalised there, with the statistics named `pixels`."""

    def __init__(self, device: torch.device, pixels: Literal["official", "clip"]) -> None:
        self.device, self.statistics = device, PIXELS[pixels]
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: dict[str, Any]) -> Inputs:
        """`frames` uint8 [B, T, 3, S, S], `keep`, `input_ids`, `positions` of `Collate`, in pinned memory -> Inputs."""
        names = [name for name in ("frames", "keep", "input_ids", "positions") if batch[name] is not None]
        with torch.cuda.stream(self.stream) if self.stream else contextlib.nullcontext():
            moved = {name: batch[name].to(self.device, non_blocking=True) for name in names}
        if self.stream:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_stream(self.stream)
            for tensor in moved.values():
                tensor.record_stream(computing)
        return Inputs(
            video=normalize_frames(moved["frames"], self.statistics.mean, self.statistics.std),
            keep_indices=moved.get("keep"),
            input_ids=moved["input_ids"],
            positions=moved["positions"],
        )
