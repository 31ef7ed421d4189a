"""What TVTSv2 learns from: video-text contrast and transcript sorting (paper section 3, official `trainer.py`)."""

import math
from typing import Any, NamedTuple, TypedDict

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from tvts.model import TVTSOutput


class GatherRanks(torch.autograd.Function):
    """Every rank's tensor, stacked: [...] -> [ranks, ...]. Backward sums what all ranks' losses say about this rank's."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        everyone = local.new_empty(dist.get_world_size(), *local.shape)
        dist.all_gather(list(everyone.unbind()), local.contiguous())
        return everyone

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def contrastive_loss(video_embeds: Tensor, text_embeds: Tensor, temperature: float = 0.05) -> Tensor:
    """Cross-entropy of cosine / temperature, video to text plus text to video. [b, E], [b, E] -> scalar.

    With torch.distributed initialised, each rank gives its b rows (the same number on all) and gets the loss of those
    rows against all ranks' rows. Gradients flow through the gather, so loss and gradients averaged over ranks, as DDP
    does, are those of one process with the full batch. The official gather keeps only a rank's own gradients, which
    amounts to a weight of 1 / world size.
    """
    precision = torch.promote_types(video_embeds.dtype, torch.float32)
    with torch.autocast(video_embeds.device.type, enabled=False):
        local = F.normalize(torch.stack([video_embeds, text_embeds]).to(precision), dim=-1)
        everyone, first = local, 0
        if dist.is_initialized() and dist.get_world_size() > 1:
            everyone = GatherRanks.apply(local).transpose(0, 1).flatten(1, 2)
            first = dist.get_rank() * local.shape[1]
        targets = torch.arange(first, first + local.shape[1], device=local.device)
        video_to_text, text_to_video = local @ everyone.flip(0).mT / temperature
        return F.cross_entropy(video_to_text, targets) + F.cross_entropy(text_to_video, targets)


def sorting_loss(order_logits: Tensor, positions: Tensor) -> Tensor:
    """Mean cross-entropy of logits [B, K, K] (row = transcript) with each transcript's position in time [B, K]."""
    precision = torch.promote_types(order_logits.dtype, torch.float32)
    return F.cross_entropy(order_logits.flatten(0, 1).to(precision), positions.flatten())


class SortingAccuracy(NamedTuple):
    """Shares of transcripts placed right, and of videos with all K right."""

    transcripts: Tensor
    videos: Tensor


def sorting_accuracy(order_logits: Tensor, positions: Tensor) -> SortingAccuracy:
    """Accuracy of logits [B, K, K] against positions [B, K]; chance is 1/K and, for independent choices, K^-K."""
    right = order_logits.argmax(-1) == positions
    return SortingAccuracy(right.float().mean(), right.all(-1).float().mean())


def chance_loss(clips: int, transcripts: int, contrastive_weight: float, sorting_weight: float) -> float:
    """The loss of a model that knows nothing, for `clips` compared with each other and `transcripts` (K) to sort."""
    return contrastive_weight * 2 * math.log(clips) + sorting_weight * math.log(transcripts)


class Losses(TypedDict):
    """The weighted sum, and its terms before weighting (sorting is 0 where there is nothing to sort)."""

    loss: Tensor
    contrastive: Tensor
    sorting: Tensor


def tvts_loss(
    output: TVTSOutput,
    positions: Tensor | None,
    contrastive_weight: float = 1.0,
    sorting_weight: float = 2.0,
    temperature: float = 0.05,
) -> Losses:
    """`contrastive_weight` * contrast + `sorting_weight` * sorting of a model's output.

    positions: [B, K] true positions of the transcripts in time; None where nothing is sorted. Official weights are
    1 and 2, but its gather makes the effective contrastive weight 1 / world size (`contrastive_loss`).
    """
    assert output.video_embeds is not None and output.text_embeds is not None
    contrastive = contrastive_loss(output.video_embeds, output.text_embeds, temperature)
    if output.order_logits is None or positions is None:
        sorting = contrastive.new_zeros(())
    else:
        sorting = sorting_loss(output.order_logits, positions)
    loss = contrastive_weight * contrastive + sorting_weight * sorting
    return {"loss": loss, "contrastive": contrastive, "sorting": sorting}
