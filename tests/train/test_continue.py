"""Real trainers, killed at any moment, end in the same weights and the same records, bit for bit."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.train.conftest import equal, records, train
from tests.train.processes import finish, kill, start
from tests.waiting import wait_for

from tvts.config import Run

pytestmark = pytest.mark.slow
STEPS = 40


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of uninterrupted trainings, by number of processes; filled as tests ask."""
    return {}


@pytest.fixture
def reference(
    straight: dict[int, Path], run: Run, dataset_card: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """The uninterrupted training on a number of processes."""

    def get(world: int) -> Path:
        if world not in straight:
            straight[world] = tmp_path_factory.mktemp(f"straight{world}")
            if world == 1:
                train(straight[world], run, dataset_card)
            else:
                finish(start(straight[world], run, dataset_card, world))
        return straight[world]

    return get


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """Saves after every step, so that a kill anywhere loses little."""
    return make_run(train={"epochs": 8, "steps_per_epoch": 5, "log_every": 3, "checkpoint_minutes": 1e-6})


AT_ONCE = 0.001
"""Seconds between two looks."""


def same(folder: Path, reference: Path) -> bool:
    weights = [load_file(each / "model/model.safetensors") for each in (folder, reference)]
    return equal(*weights) and records(folder) == records(reference)


def saved(folder: Path) -> int:
    """Step of the newest checkpoint."""
    return max((int(path.stem[5:]) for path in (folder / "training").glob("step-*.json")), default=0)


def half_written(folder: Path) -> list[Path]:
    """Checkpoints that are being written; their folders may go while one looks."""
    with contextlib.suppress(FileNotFoundError):
        return list((folder / "training").glob(".step-*/step-*.pt"))
    return []


def caught_writing(process_id: int, folder: Path) -> Iterator[bool]:
    """Whether a process, halted now, is in the middle of writing a checkpoint; it runs on when it is not."""
    while True:
        if half_written(folder):
            signal.pidfd_send_signal(process_id, signal.SIGSTOP)
            os.waitid(os.P_PIDFD, process_id, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if half_written(folder):
                yield True
            signal.pidfd_send_signal(process_id, signal.SIGCONT)
        yield False


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_kill_between_steps_changes_nothing(
    tmp_path: Path, run: Run, dataset_card: Path, reference: Callable[[int], Path], world: int, moment: str
) -> None:
    processes = start(tmp_path, run, dataset_card, world)
    wait_for("a checkpoint", lambda: saved(tmp_path) >= (1 if moment == "early" else STEPS // 2), AT_ONCE)
    kill(processes)
    assert not (tmp_path / "model").exists()
    printed = finish(start(tmp_path, run, dataset_card, world))
    assert "continuing at step" in printed[0]
    assert same(tmp_path, reference(world))


@pytest.mark.parametrize("world", [1, 2])
def test_a_kill_while_a_checkpoint_is_written_changes_nothing(
    tmp_path: Path, run: Run, dataset_card: Path, reference: Callable[[int], Path], world: int
) -> None:
    processes = start(tmp_path, run, dataset_card, world)
    wait_for("a checkpoint", lambda: saved(tmp_path) >= 2, AT_ONCE)
    attempts = caught_writing(os.pidfd_open(processes[0].pid), tmp_path)
    wait_for("half a checkpoint", lambda: next(attempts), AT_ONCE)
    kill(processes)
    assert half_written(tmp_path)
    finish(start(tmp_path, run, dataset_card, world))
    assert same(tmp_path, reference(world))
    assert not list((tmp_path / "training").glob(".step-*"))


@pytest.mark.parametrize(("world", "records_before"), [(1, 0), (1, 2), (2, 2)])
def test_a_trainer_asked_to_stop_saves_and_can_be_continued(
    tmp_path: Path,
    make_run: Callable[..., Run],
    run: Run,
    dataset_card: Path,
    reference: Callable[[int], Path],
    world: int,
    records_before: int,
) -> None:
    measured = tmp_path / "training/metrics.jsonl"
    seldom = run.model_copy(update={"train": run.train.model_copy(update={"checkpoint_minutes": 60.0})})
    processes = start(tmp_path, seldom, dataset_card, world)
    begun = tmp_path / "training/attempts"
    wait_for("the attempt", lambda: any(begun.glob("*.json")), AT_ONCE)  # before the model is built
    if records_before:
        wait_for("records", lambda: measured.exists() and len(records(tmp_path)) > records_before, AT_ONCE)
    processes[0].send_signal(signal.SIGTERM)
    printed = finish(processes, status=75)
    assert f"asked to stop: saved step {saved(tmp_path)} of {STEPS}; the same command continues" in printed[0]
    finish(start(tmp_path, seldom, dataset_card, world))
    assert load_file(tmp_path / "model/model.safetensors").keys()
    assert same(tmp_path, reference(world))
