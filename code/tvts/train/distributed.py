"""Which process am I, of how many: from SLURM's or torchrun's variables, else alone."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Process:
    """This process's place in the run."""

    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0


def start(gpus: int) -> Process:
    """Join the other processes of the run, if there are any. One process per GPU, or, where `gpus` is 0, CPU processes over gloo."""
    rank, world, local_rank = _place()
    cuda = gpus > 0 and torch.cuda.is_available()
    device = torch.device("cuda", local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        os.environ.setdefault("MASTER_ADDR", os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"))
        os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000))
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", rank=rank, world_size=world)
    return Process(rank, world, local_rank, device)


def _place() -> tuple[int, int, int]:
    """(rank, world size, local rank)."""
    variables = os.environ
    if "RANK" in variables:
        return int(variables["RANK"]), int(variables["WORLD_SIZE"]), int(variables["LOCAL_RANK"])
    if "SLURM_PROCID" in variables and "SLURM_STEP_ID" in variables:
        return int(variables["SLURM_PROCID"]), int(variables["SLURM_NTASKS"]), int(variables["SLURM_LOCALID"])
    return 0, 1, 0


def agree(process: Process, *flags: bool) -> tuple[bool, ...]:
    """For each flag whether it is set in any process: all of them get the same answer, once all have asked.

    Travels between hosts' memories, so it never waits for the accelerator's queue.
    """
    if process.world == 1:
        return flags
    shared = torch.tensor([*flags, False], dtype=torch.uint8)  # one more: nobody waits for an empty tensor
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in shared[:-1])


def lead_tells(process: Process, value: Any) -> Any:
    """The first process's `value`, in every process. Picklable."""
    box = [value]
    if process.world > 1:
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gather(process: Process, value: Any) -> list[Any]:
    """Every process's `value`, in every process. Picklable."""
    values = [value] * process.world
    if process.world > 1:
        dist.all_gather_object(values, value)
    return values


def everyone(process: Process, local: Tensor) -> Tensor:
    """Every process's tensor, stacked: [...] -> [processes, ...]."""
    if process.world == 1:
        return local[None]
    gathered = local.new_empty(process.world, *local.shape)
    dist.all_gather(list(gathered.unbind()), local.contiguous())
    return gathered
