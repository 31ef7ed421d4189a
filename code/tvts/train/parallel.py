"""A model over many processes: compiled and checkpointed blocks, DDP or FSDP2, and its whole state. No model code knows of it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map_only

from tvts.config import Run
from tvts.model import TVTSModel
from tvts.train.distributed import Process

RECOMPILATIONS = 64
"""Versions of compiled code that may be kept. All kinds of blocks share one forward function of transformers, and each needs versions
for training and validation: with PyTorch's limit of 8 some would run uncompiled."""
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def parallelize(model: TVTSModel, run: Run, process: Process) -> nn.Module:
    """What the training step calls: `model` with its blocks compiled (GPU), checkpointed and spread over the processes.

    Sharding replaces the model's parameters in place: build the optimiser afterwards.
    """
    if run.train.activation_checkpointing:
        model.activation_checkpointing_enable()
    if run.train.compile and process.device.type == "cuda":
        torch._dynamo.config.recompile_limit = RECOMPILATIONS
        for block in model.blocks():
            block.compile()
    if process.world == 1:
        return model
    if run.launch.parallel == "fsdp":
        for block in model.blocks():
            fully_shard(block)
        fully_shard(model)
        return model
    assert run.data is not None
    return DistributedDataParallel(model, find_unused_parameters=len(run.data.datasets) > 1)


@contextlib.contextmanager
def unsynchronised(model: nn.Module) -> Iterator[None]:
    """Backward passes inside add to this process's gradients alone; the next one outside shares the sum."""
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(False)
        yield
        model.set_requires_gradient_sync(True)
    else:
        yield


def clip_gradients(parameters: list[nn.Parameter], largest: float | None) -> Tensor:
    """Norm of all gradients before clipping, over all processes that hold a part of them: a scalar. They are scaled down to
    `largest`, if given."""
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if largest is not None:
        nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Model and optimiser, unsharded, copied to host memory, under names that do not depend on the number of processes.

    Every process must call it; all but the first may get empty mappings.
    """
    weights, moments = get_state_dict(model, optimizer, options=WHOLE)
    return _copied({"model": weights, "optimizer": moments}, _device(model))


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's part of `whole_state`."""
    return _copied(get_model_state_dict(model, options=WHOLE), _device(model))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _copied(state: Any, device: torch.device) -> Any:
    """Tensors that training does not change any more: those from an accelerator are copies already, but for counters held on the host."""
    on_host = device.type == "cpu"
    return tree_map_only(Tensor, lambda tensor: tensor.clone() if on_host or tensor.dim() == 0 else tensor, state)


def load_whole_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take this process's part of `state`, whole in every process."""
    weights, moments = state["model"], state["optimizer"]
    for name in (name for group in moments["param_groups"] for name in group["params"]):
        moments["state"].setdefault(name, _untouched(weights[name]))
    options = StateDictOptions(full_state_dict=True)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=options)


def _untouched(weight: Tensor) -> dict[str, Tensor]:
    """What AdamW begins with: saved nowhere for parameters that have had no gradient yet."""
    return {
        "step": torch.zeros(()),
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.zeros_like(weight),
    }
