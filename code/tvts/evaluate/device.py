"""Where to compute."""

from typing import Literal

import torch

from tvts.config import UserError


def pick_device(wish: Literal["auto", "cpu", "cuda"], process: int = 0) -> torch.device:
    """The device of a job's process; `auto` = a GPU if there is one. Raises UserError for cuda without a GPU."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise UserError("evaluation.device: cuda was asked for, but PyTorch sees no GPU; use auto or cpu")
    if wish == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", process % torch.cuda.device_count())
