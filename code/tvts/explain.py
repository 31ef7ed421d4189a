"""What went wrong in a workflow, in one line per failure: what, where, and where to change it. Read from the logs it left."""

import re
from dataclasses import dataclass
from pathlib import Path

from tvts.config.schema import Jobs

PROFILE = "workflow/profiles/slurm/config.yaml"


@dataclass(frozen=True)
class Sign:
    """A pattern in a log and what to say about it; `{where}` becomes the key that sizes the rule's jobs."""

    pattern: str
    advice: str


SIGNS = (
    Sign(
        r"invalid partition(?: specified: (?P<name>[^\s'\"]+))?",
        f"this cluster has no partition {{name}}: set slurm_partition in {PROFILE} (`sinfo -s` lists them)",
    ),
    Sign(
        r"invalid account|account .{0,80} (?:is invalid|not valid|not found)",
        f"SLURM does not take the account: set slurm_account in {PROFILE} (`sacctmgr show assoc user=$USER` lists yours)",
    ),
    Sign(
        r"requested node configuration is not available|invalid generic resource|requested gres option unsupported",
        "no node of the partition has the GPUs, cores or memory asked for: lower them in {where}, "
        f"or set another slurm_partition in {PROFILE}",
    ),
    Sign(
        r"requested time limit is invalid|exceeds? (?:the )?partition time limit",
        "the partition allows no job this long: lower the minutes in {where}",
    ),
    Sign(
        r"SLURM status is: 'TIMEOUT'|due to time limit",
        "out of time: raise the minutes in {where}; a training continues from its checkpoint",
    ),
    Sign(
        r"SLURM status is: 'OUT_OF_MEMORY'|oom.kill|out of memory",
        "out of memory: raise mem_mb in {where}; on a GPU lower data.batch_size or set train.activation_checkpointing",
    ),
    Sign(
        r"watchdog caught collective operation timeout|NCCL.{0,60}(?:timeout|timed out)",
        "NCCL timed out, a process died or the network is wrong: see the first error in the log; "
        "NCCL_SOCKET_IFNAME names the interface, NCCL_DEBUG=INFO shows more",
    ),
    Sign(
        r"config was edited while the workflow runs",
        "the config was edited while jobs ran: undo the edit, or start again with the new one",
    ),
    Sign(
        r"unable to contact slurm controller|slurm_load_jobs error",
        "the SLURM controller did not answer: start again when `squeue` does",
    ),
)
SIZED_BY = {
    "pretrain": "runs.<run>.launch",
    "dataset_shard": "resources.dataset",
    "dataset_shards": "resources.dataset",
    "dataset_card": "resources.dataset",
    "score_sorting": "resources.score",
    "score_distortion": "resources.score",
}
"""Rules and groups whose key in config.yaml is not `resources.<rule>`."""
ERROR = re.compile(
    r"^ *(?:message: )?Error in (?:rule|group) (?P<rule>[^:\n]+):?\n(?P<rest>.*?)(?=^ *\[\w{3} \w{3} |^ *(?:message: )?Error in |\Z)",
    re.M | re.S,
)
LOGS = re.compile(r"^\s+log: (?P<paths>.+?)(?: \(check log file|$)", re.M)
OWN = re.compile(r"^(?:\d+: )?tvts: (?P<line>.+)$", re.M)


def explain(log: Path) -> list[str]:
    """One line per known failure in Snakemake's log and in the logs of the jobs that it names. What `tvts` itself said comes first."""
    lines = []
    for error in ERROR.finditer(log.read_text(encoding="utf-8", errors="replace")):
        paths = [Path(path) for found in LOGS.finditer(error["rest"]) for path in found["paths"].split(", ")]
        said = [path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()]
        lines += [f"{error['rule']}: {line}" for line in _known(error["rule"], "\n".join([error["rest"], *said]))]
    return list(dict.fromkeys(lines))


def _sized_by(rule: str) -> str:
    if rule in SIZED_BY or rule in Jobs.model_fields:
        return f"config.yaml ({SIZED_BY.get(rule, f'resources.{rule}')})"
    return f"{PROFILE} (set-resources: {{{rule}: ...}})"


def _known(rule: str, text: str) -> list[str]:
    where = _sized_by(rule)
    found = [
        sign.advice.format(where=where, name=match.groupdict().get("name") or "of this name")
        for sign in SIGNS
        if (match := re.search(sign.pattern, text, re.IGNORECASE))
    ]
    return [match["line"] for match in OWN.finditer(text)] + found
