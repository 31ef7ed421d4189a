"""AdamW over the official parameter groups, and the learning-rate schedule as a pure function of the step."""

import math

import torch

from tvts.config.schema import Optim
from tvts.model.modeling import TVTSModel
from tvts.model.tuning import parameter_groups


def build_optimizer(model: TVTSModel, settings: Optim) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; each group keeps its peak rate under `peak_lr`."""
    groups = parameter_groups(
        model,
        new_lr=settings.lr_new,
        clip_lr=settings.lr_clip,
        weight_decay=settings.weight_decay,
        temporal_embedding_group=settings.temporal_embedding_group,
    )
    groups = [group | {"peak_lr": group["lr"]} for group in groups]
    betas = (settings.betas[0], settings.betas[1])
    return torch.optim.AdamW(groups, betas=betas, eps=settings.eps, fused=True)


def rate(settings: Optim, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Share of the peak learning rate at a step (0-based)."""
    warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    if settings.schedule == "step":
        return warmup * 0.1 ** sum(step // steps_per_epoch >= milestone for milestone in settings.milestones)
    remaining = max(0.0, 1 - max(0, step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps))
    return warmup * 0.5 * (1 - math.cos(math.pi * remaining))


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group to `share` of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["peak_lr"]
