"""Which parameters learn, and at which rate: the frozen text blocks and the official parameter groups."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn

from .modeling import TVTSModel

NEW_PARTS = ("temporal_attn", "layer_norm3", "sorter")


def set_trainable(
    model: TVTSModel, frozen_blocks: int | Literal["all"], train_embeddings: bool = True, train_final: bool = True
) -> None:
    """Freeze the text tower from the bottom; everything else learns.

    frozen_blocks: number of blocks (paper: 9 of 12 for B, 18 of 24 for H; 0 = end-to-end), or "all" for the whole
        tower with embeddings, final norm and projection.
    train_embeddings: token and position embeddings learn (official: yes).
    train_final: final layer norm and text projection learn (official: yes).
    Raises ValueError for more blocks than there are.
    """
    tower, blocks = model.text_model, model.text_model.encoder.layers
    everything = frozen_blocks == "all"
    frozen = len(blocks) if everything else int(frozen_blocks)
    if not 0 <= frozen <= len(blocks):
        raise ValueError(f"frozen_blocks: got {frozen_blocks}; allowed: 0 to {len(blocks)} (blocks there are), or all")
    model.requires_grad_(True)
    blocks[:frozen].requires_grad_(False)
    tower.embeddings.requires_grad_(train_embeddings and not everything)
    for part in (tower.final_layer_norm, model.text_projection):
        part.requires_grad_(train_final and not everything)


def parameter_groups(
    model: nn.Module,
    new_lr: float = 1e-4,
    clip_lr: float = 1e-7,
    weight_decay: float = 0.05,
    temporal_embedding_group: Literal["new", "clip"] = "clip",
) -> list[dict[str, Any]]:
    """Optimizer groups of the trainable parameters, as in the official `train_dist_*.py`.

    "new": temporal attention, its norm and the sorter; "clip": all else. Biases and norms get no decay. The official
    scripts count the temporal embedding as "clip", which leaves it almost as initialised.
    Each group has `params`, `names`, `lr`, `weight_decay` and `name`.
    """
    new_parts = (*NEW_PARTS, "temporal_embedding") if temporal_embedding_group == "new" else NEW_PARTS
    members: dict[tuple[str, str], dict[str, nn.Parameter]] = {
        (part, decay): {} for part in ("new", "clip") for decay in ("decay", "no decay")
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = "new" if any(key in name for key in new_parts) else "clip"
            decay = "no decay" if "bias" in name or "norm" in name else "decay"
            members[part, decay][name] = parameter
    return [
        {
            "name": f"{part}, {decay}",
            "params": list(parameters.values()),
            "names": list(parameters),
            "lr": new_lr if part == "new" else clip_lr,
            "weight_decay": weight_decay if decay == "decay" else 0.0,
        }
        for (part, decay), parameters in members.items()
        if parameters
    ]


def group_table(model: nn.Module, groups: Iterable[dict[str, Any]]) -> list[tuple[str, int, float, float]]:
    """Rows (group, parameters, lr, decay) for a table; the last row is what stays frozen."""
    rows = [
        (group["name"], sum(p.numel() for p in group["params"]), float(group["lr"]), float(group["weight_decay"]))
        for group in groups
    ]
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return [*rows, ("frozen", frozen, 0.0, 0.0)]
