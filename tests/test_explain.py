"""Failures of a workflow, each told in one line with where to change it."""

from pathlib import Path

import pytest
from snakemake.logging import DefaultFormatter

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


def test_a_group_of_jobs_is_explained_as_snakemake_tells_of_it(tmp_path: Path) -> None:
    """The message of the group, then that of each member, indented."""
    for name, text in {
        "slurm": "slurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***\n",
        "00000": "",
        "00001": "tvts: results/datasets/yt/00001.parquet: No space left on device; free space\n",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    jobs = [
        {"rule_name": "dataset_shard", "msg": "x", "rule_msg": None, "jobid": number, "input": [], "output": ["x"]}
        | {"log": [str(tmp_path / f"{number:05d}")], "conda_env": None, "shellcmd": "tvts", "aux": {}, "indent": True}
        for number in (0, 1)
    ]  # fmt: skip
    said = DefaultFormatter()
    group = {"msg": "Error in group dataset_shards", "aux_logs": [str(tmp_path / "slurm")], "job_error_info": jobs}
    log = tmp_path / "snakemake.log"
    log.write_text("\n".join([said.format_group_error(group), *map(said.format_job_error, jobs)]), encoding="utf-8")
    full = "results/datasets/yt/00001.parquet: No space left on device; free space"
    assert explain(log) == [
        f"dataset_shards: {full}",
        "dataset_shards: out of time: raise the minutes in config.yaml (resources.dataset); a training continues from its checkpoint",
        f"dataset_shard: {full}",
    ]


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ("convert", "config.yaml (resources.convert)"),
        ("score_distortion", "config.yaml (resources.score)"),
        ("demo_clip", "workflow/profiles/slurm/config.yaml (set-resources: {demo_clip: ...})"),
    ],
)
def test_where_to_change_it_is_a_key_that_exists(tmp_path: Path, rule: str, where: str) -> None:
    log = tmp_path / "snakemake.log"
    message = "SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'."
    log.write_text(BLOCK.format(rule=rule, message=message, log="none.log"), encoding="utf-8")
    assert explain(log)[0].startswith(f"{rule}: out of memory: raise mem_mb in {where};")


def test_nothing_is_made_up(tmp_path: Path) -> None:
    log = tmp_path / "snakemake.log"
    log.write_text(BLOCK.format(rule="plan", message="SLURM-job '7' failed.", log="none.log"), encoding="utf-8")
    assert explain(log) == []
