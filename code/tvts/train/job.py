"""A training and the job it runs in: GPUs that are not there, processes that lose each other, one writer, a live view of the metrics."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from tvts.config import UserError
from tvts.config.schema import Run
from tvts.train.attempts import attempt, continue_in_queue
from tvts.train.checkpoint import writer_lock
from tvts.train.distributed import Process, start
from tvts.train.loop import Stopped

LOST = ("NCCL", "gloo", "Connection closed by peer", "Connection reset by peer", "TCPStore")


def join(run: Run) -> Process:
    """This process's place among the others. Raises UserError when they, or the GPUs, cannot be found."""
    require_gpus(run)
    with neighbours():
        process = start(run.launch.gpus)
    if process.world == 1 < run.launch.processes:
        raise UserError(
            f"launch: {run.launch.processes} processes asked for ({run.launch.nodes} nodes x {run.launch.gpus} GPUs), but one was "
            f"started; start them with srun, or with `torchrun --standalone --nproc-per-node {run.launch.gpus} --no-python "
            "tvts pretrain ...`"
        )
    return process


@contextlib.contextmanager
def held(
    config: Path, cards: list[Path], folder: Path, run: Run, process: Process, minutes: float | None
) -> Iterator[None]:
    """While the block trains, its first process alone writes to `folder`; a training that stops goes back into the queue."""
    try:
        with neighbours(), contextlib.ExitStack() as leading:
            if process.leads:
                leading.enter_context(writer_lock(folder))
                leading.enter_context(attempt(folder, run, process.world, minutes))
                leading.enter_context(live_view(config, cards, folder))
            yield
    except Stopped:
        continue_in_queue(folder, process.leads)
        raise


def require_gpus(run: Run) -> None:
    """Raises UserError when torch sees no GPU though the run asks for some. `TVTS_PRETEND_GPUS`: train on the CPU in their place."""
    if run.launch.gpus and not torch.cuda.is_available() and not os.environ.get("TVTS_PRETEND_GPUS"):
        build = (
            f"built for CUDA {torch.version.cuda}; is the driver new enough?" if torch.version.cuda else "a CPU build"
        )
        raise UserError(
            f"launch.gpus: {run.launch.gpus} asked for, but torch ({build}) sees none on {socket.gethostname()}; "
            "see nvidia-smi there, or set launch.gpus: 0 to train on the CPU"
        )


@contextlib.contextmanager
def neighbours() -> Iterator[None]:
    """Raises UserError in one line when the processes of a run lose each other (NCCL or gloo: time-out, reset connection)."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(sign in str(error) for sign in LOST):
            raise
        rank = os.environ.get("SLURM_PROCID", os.environ.get("RANK", "0"))
        raise UserError(
            f"process {rank} on {socket.gethostname()} lost the others: {str(error).strip().splitlines()[0][:200]}; "
            "look for the first process that failed above; if none did, it is the network: set NCCL_SOCKET_IFNAME "
            "(GLOO_SOCKET_IFNAME) to the interface that joins the nodes, NCCL_DEBUG=INFO shows more"
        ) from None


@contextlib.contextmanager
def live_view(config: Path, cards: list[Path], folder: Path) -> Iterator[None]:
    """While the block runs, a process of its own sends new metrics to the MLflow server in `TVTS_TRACKING`, if that is set.

    It can neither stop nor slow the training: it reads the metrics file, and leaves when this process does.
    """
    tracking = os.environ.get("TVTS_TRACKING")
    if not tracking:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tvts", "follow", str(config), "--tracking", tracking]
    command += [f"--dataset={card}" for card in cards] + ["--metrics", str(folder / "metrics.jsonl")]
    with open(folder / "live.log", "a", encoding="utf-8") as log:
        follower = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        assert follower.stdin is not None
        follower.stdin.close()
