"""Where to compute."""

from typing import Literal

import torch

from tvts.config import UserError


def pick_device(wish: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to run on; `auto` = the GPU if there is one. Raises UserError for cuda without a GPU."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise UserError("evaluation.device: cuda was asked for, but PyTorch sees no GPU; use auto or cpu")
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")
