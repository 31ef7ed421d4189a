"""Which process am I, of how many: from SLURM's or torchrun's variables, else alone."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


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


def start() -> Process:
    """Join the other processes of the run, if there are any. One process per GPU, or CPU processes over gloo."""
    rank, world, local_rank = _place()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        os.environ.setdefault("MASTER_ADDR", os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"))
        os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000))
        dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=world)
    return Process(rank, world, local_rank, device)


def _place() -> tuple[int, int, int]:
    """(rank, world size, local rank)."""
    variables = os.environ
    if "RANK" in variables:
        return int(variables["RANK"]), int(variables["WORLD_SIZE"]), int(variables["LOCAL_RANK"])
    if "SLURM_PROCID" in variables and "SLURM_STEP_ID" in variables:
        return int(variables["SLURM_PROCID"]), int(variables["SLURM_NTASKS"]), int(variables["SLURM_LOCALID"])
    return 0, 1, 0


def any_process(flag: bool, process: Process) -> bool:
    """Whether `flag` is set in any process: all of them get the same answer."""
    if process.world == 1:
        return flag
    shared = torch.tensor(float(flag), device=process.device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared.item())
