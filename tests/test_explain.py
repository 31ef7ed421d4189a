"""Failures of a workflow, each told in one line with where to change it."""

from pathlib import Path

import pytest

from tvts.explain import explain

BLOCK = """[Sat Nov 21 05:54:07 2026]
Error in rule {rule}:
    message: {message}
    jobid: 6
    log: {log} (check log file(s) for error details)
[Sat Nov 21 05:54:14 2026]
Finished jobid: 29 (Rule: funnel_figure)
"""


@pytest.mark.parametrize(
    ("rule", "message", "said", "line"),
    [
        (
            "plan",
            "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: cpu'.",
            "",
            "plan: this cluster has no partition cpu: set slurm_partition in workflow/profiles/slurm/config.yaml (`sinfo -s` lists them)",
        ),
        (
            "embed",
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "",
            "embed: no node of the partition has the GPUs, cores or memory asked for: lower them in config.yaml (resources.embed), "
            "or set another slurm_partition in workflow/profiles/slurm/config.yaml",
        ),
        (
            "pretrain",
            "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'.",
            "",
            "pretrain: out of time: raise the minutes in config.yaml (runs.<run>.launch); a training continues from its checkpoint",
        ),
        (
            "dataset_shard",
            "SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'.",
            "",
            "dataset_shard: out of memory: raise mem_mb in config.yaml (resources.dataset); on a GPU lower data.batch_size or set "
            "train.activation_checkpointing",
        ),
        (
            "download",
            "SLURM-job '7' failed, SLURM status is: 'FAILED'.",
            "tvts: results/corpora/a/clips/00000.tar: No space left on device; free space or move results, the same command continues\n",
            "download: results/corpora/a/clips/00000.tar: No space left on device; free space or move results, the same command continues",
        ),
        (
            "pretrain",
            "SLURM-job '7' failed, SLURM status is: 'FAILED'.",
            "[rank3]:[E] [Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE) ran for 600014 ms\n",
            "pretrain: NCCL timed out, a process died or the network is wrong: see the first error in the log; NCCL_SOCKET_IFNAME names "
            "the interface, NCCL_DEBUG=INFO shows more",
        ),
        (
            "score",
            "SLURM-job '7' failed, SLURM status is: 'FAILED'.",
            "config was edited while the workflow runs: undo the edit, or stop the workflow and start it again\n",
            "score: the config was edited while jobs ran: undo the edit, or start again with the new one",
        ),
    ],
)
def test_a_failure_is_one_line(tmp_path: Path, rule: str, message: str, said: str, line: str) -> None:
    job = tmp_path / "job.log"
    job.write_text(said, encoding="utf-8")
    log = tmp_path / "snakemake.log"
    block = BLOCK.format(rule=rule, message=message, log=f"results/logs/gone.log, {job}")
    log.write_text(f"2 of 9 steps done\n{block}{block}", encoding="utf-8")
    assert explain(log) == [line]


def test_nothing_is_made_up(tmp_path: Path) -> None:
    log = tmp_path / "snakemake.log"
    log.write_text(BLOCK.format(rule="plan", message="SLURM-job '7' failed.", log="none.log"), encoding="utf-8")
    assert explain(log) == []
