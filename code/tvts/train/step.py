"""Gradients of one batch: at once, or in parts whose gradients add up to exactly those of the whole batch."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tvts.config.schema import Objective
from tvts.model import TVTSOutput
from tvts.objectives import Losses, contrastive_loss, sorting_loss, tvts_loss
from tvts.train.inputs import Inputs
from tvts.train.parallel import unsynchronised

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


def backward(model: nn.Module, batch: Inputs, objective: Objective, parts: int, autocast: Autocast) -> Losses:
    """Add the gradients of this process's `batch` to the model's, and return its losses, detached.

    The batch is computed in `parts` one after another, which must divide it. Contrast needs all clips at once, so their
    embeddings are computed first without gradients; the loss's gradient at the embeddings is then carried through each
    part (GradCache, arXiv 2101.06983): one more forward pass buys the memory.
    """
    losses = (
        _at_once(model, batch, objective, autocast)
        if parts == 1
        else _in_parts(model, batch, objective, parts, autocast)
    )
    return {
        "loss": losses["loss"].detach(),
        "contrastive": losses["contrastive"].detach(),
        "sorting": losses["sorting"].detach(),
    }


def _at_once(model: nn.Module, batch: Inputs, objective: Objective, autocast: Autocast) -> Losses:
    with autocast():
        output = _forward(model, batch)
    losses = tvts_loss(
        output,
        batch["positions"],
        contrastive_weight=objective.contrastive_weight,
        sorting_weight=objective.sorting_weight,
        temperature=objective.temperature,
    )
    losses["loss"].backward()
    return losses


def _in_parts(model: nn.Module, batch: Inputs, objective: Objective, parts: int, autocast: Autocast) -> Losses:
    pieces = _split(batch, parts)
    with torch.no_grad(), autocast():
        outputs = [_forward(model, piece) for piece in pieces]
    video, text = (
        _at_least_fp32(torch.cat([getattr(output, name) for output in outputs])).requires_grad_()
        for name in ("video_embeds", "text_embeds")
    )
    contrastive = contrastive_loss(video, text, objective.temperature)
    (objective.contrastive_weight * contrastive).backward()
    assert video.grad is not None and text.grad is not None
    sorting = contrastive.new_zeros(())
    for number, (piece, video_grad, text_grad) in enumerate(
        zip(pieces, video.grad.chunk(parts), text.grad.chunk(parts), strict=True)
    ):
        with contextlib.nullcontext() if number == parts - 1 else unsynchronised(model):
            with autocast():
                output = _forward(model, piece)
            assert output.video_embeds is not None and output.text_embeds is not None
            carried = (output.video_embeds * video_grad).sum() + (output.text_embeds * text_grad).sum()
            if output.order_logits is not None:
                part = sorting_loss(output.order_logits, piece["positions"]) / parts
                carried = carried + objective.sorting_weight * part
                sorting = sorting + part.detach()
            carried.backward()
    loss = objective.contrastive_weight * contrastive + objective.sorting_weight * sorting
    return {"loss": loss, "contrastive": contrastive, "sorting": sorting}


def _at_least_fp32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _forward(model: nn.Module, batch: Inputs) -> TVTSOutput:
    return model(batch["video"], batch["keep_indices"], batch["input_ids"])


def _split(batch: Inputs, parts: int) -> list[Inputs]:
    keep = batch["keep_indices"]
    return [
        Inputs(video=video, keep_indices=kept, input_ids=ids, positions=positions)
        for video, kept, ids, positions in zip(
            batch["video"].chunk(parts),
            [None] * parts if keep is None else keep.chunk(parts),
            batch["input_ids"].chunk(parts),
            batch["positions"].chunk(parts),
            strict=True,
        )
    ]
