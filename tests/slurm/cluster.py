"""A SLURM cluster of two virtual nodes with pretended GPUs on this machine: own keys, ports and folders; nothing outside its folder.

The programs come from the Debian packages slurmctld, slurmd, slurm-client and munge. What it starts is stopped by process id, and ends with
this process, however that ends (`setpriv --pdeathsig`).
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import free_ports, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo", "setpriv")
CLIENTS = ("srun", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
NODES = ("n1", "n2")
PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/bin"
DEVICES = ("/dev/zero", "/dev/full")  # stand for GPUs
CGROUP = Path("/sys/fs/cgroup")


def missing_programs() -> list[str]:
    """Programs of SLURM that are not installed here."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


def cgroups_writable() -> bool:
    """Whether SLURM can put jobs into control groups here (version 1: a freezer hierarchy in which groups can be made)."""
    probe = CGROUP / "freezer" / f"probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found is not None, name
    return found


class Cluster:
    """Two nodes, `n1` and `n2`, with 8 pretended CPUs, 16 GB and 2 pretended GPUs each, in the partition `main`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tracks = "cgroup" if cgroups_writable() else "linuxproc"
        self.bin = folder / "bin"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {"PATH": f"{self.bin}:{PATH}", "SLURM_CONF": str(folder / "slurm.conf")}

    @contextlib.contextmanager
    def running(self) -> Iterator["Cluster"]:
        """The cluster while the block runs."""
        self._configure()
        try:
            self._daemon("munged", "munged", "--foreground", "--force", *self._munge_files())
            wait_for("munged", (self.folder / "munge.socket").exists)
            self._daemon("slurmctld", "slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
            wait_for("slurmctld", lambda: "n[1-2]" in self.run("sinfo", "-h", "-o", "%N", check=False))
            for node in NODES:
                self.start_node(node)
            yield self
        finally:
            self._stop()

    def run(self, *command: str, check: bool = True) -> str:
        """Output of a SLURM command."""
        return subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=check
        ).stdout.strip()

    def jobs(self, *states: str) -> dict[str, str]:
        """Job id -> name of the rule, of jobs in `states` (default: all that are not over)."""
        chosen = ["-t", ",".join(states)] if states else []
        lines = self.run("squeue", "-h", "-o", "%A %k", *chosen).splitlines()
        return {number: comment for number, _, comment in (line.partition(" ") for line in lines)}

    def show(self, job: str) -> dict[str, str]:
        """What the controller knows of a job: `JobState`, `NodeList`, `Restarts`, `TresPerNode`, ..."""
        pairs = (word.partition("=") for word in self.run("scontrol", "-o", "show", "job", job).split())
        return {name: value for name, _, value in pairs}

    def start_node(self, node: str) -> None:
        """Start a node's daemon and wait until it takes jobs."""
        self._daemon(node, "slurmd", "-D", "-N", node, "-f", self.environment["SLURM_CONF"])
        wait_for(f"node {node}", lambda: self.run("sinfo", "-h", "-n", node, "-o", "%T") in ("idle", "mixed"))

    def lose_node(self, node: str) -> None:
        """The node's power fails: its daemon and every process of its jobs are gone at once."""
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        for step in self._steps():
            family = [step, *_descendants(step)]
            if any(f"SLURMD_NODENAME={node} " in f"{_environment(process)} " for process in family):
                for process in family:
                    self._kill(process, signal.SIGKILL)

    def _configure(self) -> None:
        folder, host = self.folder, socket.gethostname().split(".")[0]
        controller, *node_ports = free_ports(1 + len(NODES))
        for name in ("state", "bin", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir(parents=True)
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        user = getpass.getuser()
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={controller}",
            f"SlurmUser={user}",
            f"SlurmdUser={user}",
            f"AuthInfo=socket={folder}/munge.socket,cred_expire=15",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool-%n",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmdPidFile={folder}/slurmd-%n.pid",
            f"SlurmctldLogFile={folder}/slurmctld.log",
            f"SlurmdLogFile={folder}/slurmd-%n.log",
            f"ProctrackType=proctrack/{self.tracks}",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "AccountingStorageType=accounting_storage/none",
            "JobAcctGatherType=jobacct_gather/none",
            "SlurmdTimeout=30",
            "MessageTimeout=60",
            "KillWait=5",
            "MinJobAge=3600",
            "ReturnToService=2",
            "MpiDefault=none",
            "SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0",
            "SlurmdParameters=config_overrides",
            "GresTypes=gpu",
            *(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=16000 Gres=gpu:2 State=UNKNOWN"
                for node, port in zip(NODES, node_ports, strict=True)
            ),
            f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP",
        ]
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="utf-8")
        (folder / "gres.conf").write_text(
            "AutoDetect=off\n" + "".join(f"NodeName={','.join(NODES)} Name=gpu File={device}\n" for device in DEVICES),
            encoding="utf-8",
        )
        for name in CLIENTS:  # jobs lose SLURM_CONF, but not PATH
            wrapper = self.bin / name
            wrapper.write_text(
                f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {program(name)} "$@"\n', encoding="utf-8"
            )
            wrapper.chmod(0o755)

    def _munge_files(self) -> list[str]:
        names = {
            "key-file": "munge.key",
            "socket": "munge.socket",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munge.seed",
        }
        return [f"--{option}={self.folder}/{name}" for option, name in names.items()]

    def _daemon(self, key: str, name: str, *arguments: str) -> None:
        with open(self.folder / f"{key}.out", "ab") as out:
            self.daemons[key] = subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "TERM", program(name), *arguments],
                env=os.environ | self.environment,
                stdout=out,
                stderr=out,
            )

    def _steps(self) -> list[int]:
        """Processes that run a job step of this cluster."""
        return [
            process
            for process in _processes()
            if _title(process).startswith("slurmstepd") and str(self.folder) in _environment(process)
        ]

    def _kill(self, process: int, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, how)

    def _stop(self) -> None:
        for step in self._steps():
            for process in [*_descendants(step), step]:
                self._kill(process, signal.SIGKILL)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(process: int, name: str) -> str:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _title(process: int) -> str:
    return _read(process, "cmdline")


def _environment(process: int) -> str:
    return _read(process, "environ")


def _descendants(process: int) -> list[int]:
    parents = {each: _read(each, "stat").rpartition(")")[2].split() for each in _processes()}
    found = [process]
    for above in found:
        found += [each for each, fields in parents.items() if fields and int(fields[1]) == above]
    return found[1:]
