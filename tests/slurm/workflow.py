"""The demo in miniature, run by the real Snakemake with the real profile on the test cluster."""

import os
import shutil
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from tests.slurm.cluster import Cluster
from tests.waiting import wait_for
from tests.workflow.snake import ROOT

from tvts.config import deep_merge
from tvts.files import read_json

STEPS = 12
SMALL: dict[str, Any] = {
    "extra": {"videos": 8, "clip_steps": 20},
    "corpora": {"narrated": {"shards": 2}},
    "datasets": {"narrated": {"validation_share": 0.3, "validation_windows": 1}},
    "runs": {
        "demo": {
            "set": {
                "data": {"batch_size": 4},
                "train": {"epochs": 1, "steps_per_epoch": STEPS, "log_every": 1, "checkpoint_minutes": 0.0001},
                "launch": {"mem_mb": 2000},
            }
        },
        "two-nodes": {"extends": "demo", "set": {"launch": {"nodes": 2}}},
        "two-gpus": {"extends": "demo", "set": {"launch": {"gpus": 2}}},
        "two-by-two": {"extends": "demo", "set": {"launch": {"nodes": 2, "gpus": 2}}},
        "told-to-stop": {"extends": "demo", "set": {"launch": {"mem_mb": 4500}}},
        "out-of-time": {"extends": "demo", "set": {"launch": {"mem_mb": 4500, "minutes": 2}}},
        "node-lost": {"extends": "demo", "set": {"launch": {"mem_mb": 12000}}},
        "orphaned": {"extends": "demo"},
    },
    "ablations": {"freeze_depth": {"values": [2], "seeds": [0]}},
    "benchmarks": {"motions": {"protocols": ["retrieval"]}},
    "targets": {"runs": ["demo"]},
    "resources": {"transcribe": {"gpus": 1}, "embed": {"gpus": 1}},
}
"""Runs named after what happens to them have the settings of `demo`, and so must end in its very weights."""
SLOW = '''#!{python}
"""tvts, but each training step waits as long as the file `slow` says, while there is one."""
import contextlib, sys, time
from pathlib import Path
from tvts.cli import main
if sys.argv[1] == "pretrain":
    from tvts.train.loop import Trainer
    step = Trainer._optimise
    def slowly(self, batches):
        with contextlib.suppress(FileNotFoundError):
            time.sleep(float(Path("slow").read_text()))
        return step(self, batches)
    Trainer._optimise = slowly
main()
'''

IMPATIENT = """#!{python}
# snakemake, but it asks SLURM for the state of jobs every 2 s, not ever more seldom
from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor
Executor.next_seconds_between_status_checks = property(lambda self: 2, lambda self, seconds: None)
main()
"""


class Workflow:
    """A working folder on the cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster, self.config = folder, cluster, deepcopy(SMALL)
        folder.mkdir()
        (folder / "slurm").symlink_to(ROOT / "slurm")
        programs = folder / "bin"
        programs.mkdir()
        for name, text in {"tvts": SLOW, "snakemake": IMPATIENT}.items():
            (programs / name).write_text(text.format(python=sys.executable), encoding="utf-8")
            (programs / name).chmod(0o755)
        path = f"{programs}:{cluster.bin}:{Path(sys.executable).parent}:{cluster.environment['PATH']}"
        self.environment = os.environ | cluster.environment | {
            "PATH": path, "PYTHONPATH": str(ROOT / "code"), "OMP_NUM_THREADS": "1", "TVTS_PRETEND_GPUS": "1",
        }  # fmt: skip

    def command(self, *arguments: str, **changes: Any) -> list[str]:
        """`snakemake --profile slurm`, with what is different here: quick polling, and no accounting database."""
        overlay = self.folder / "overlay.yaml"
        overlay.write_text(yaml.safe_dump(deep_merge(self.config, changes)), encoding="utf-8")
        return [
            "snakemake", *arguments, "--snakefile", str(ROOT / "workflow/Snakefile"), "--profile", "slurm",
            "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10",
            "--configfile", str(ROOT / "demo/config.yaml"), str(overlay),
        ]  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Run a command in the folder; its output goes to `main.log`."""
        with open(self.folder / "main.log", "w", encoding="utf-8") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def run(self, *command: str, seconds: float = 1800.0) -> int:
        """Run a command to its end."""
        return self.finish(self.start(*command), seconds)

    def finish(self, process: subprocess.Popen[str], seconds: float = 1800.0) -> int:
        """Wait for a command; kill it, and fail, when it takes too long."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"still running after {seconds} s: {self.said()[-3000:]}") from None

    def said(self) -> str:
        """Output of the last command."""
        return (self.folder / "main.log").read_text(encoding="utf-8")

    def slow(self, seconds: float | None) -> None:
        """Let each training step take this long; None: no longer than it needs."""
        file = self.folder / "slow"
        if seconds is None:
            file.unlink()
        else:
            file.write_text(str(seconds))

    def job_of(self, name: str) -> str:
        """Id of the newest job whose comment ends in `name`."""
        found: list[str] = []

        def submitted() -> bool:
            found[:] = [job for job, comment in self.cluster.jobs().items() if comment.endswith(name)]
            return bool(found)

        wait_for(f"a job for {name}", submitted)
        return max(found, key=int)

    def training(self, run: str) -> Path:
        """Folder of a run's checkpoints."""
        return self.folder / "results/runs" / run / "training"

    def wait_for_step(self, run: str) -> None:
        """Wait until a run has saved a checkpoint."""
        wait_for(f"a checkpoint of {run}", lambda: any(self.training(run).glob("step-*.json")))

    def attempts(self, run: str) -> list[dict[str, Any]]:
        """Records of a run's attempts."""
        return [read_json(path) for path in sorted(self.training(run).glob("attempts/*.json"))]

    def weights(self, run: str) -> bytes:
        """A finished run's weights, as they lie on disk."""
        return (self.folder / "results/runs" / run / "model/model.safetensors").read_bytes()

    def remove(self, *paths: str) -> None:
        """Remove results."""
        for path in paths:
            target = self.folder / "results" / path
            shutil.rmtree(target) if target.is_dir() else target.unlink()
