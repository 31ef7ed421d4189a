"""The whole loop on several processes: the same training as on one, however it is spread, and whoever continues it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.train.conftest import records, train
from tests.train.processes import finish, start
from transformers import AutoModel

from tvts.config import Run
from tvts.files import read_json, write_json

pytestmark = pytest.mark.slow


@pytest.fixture
def make_gentle(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """A large eps and no saddle, else AdamW makes whole steps out of the rounding noise of gradients that are zero."""

    def make(**overrides: Any) -> Run:
        model = make_run().model.model_dump() | {"temporal_attention": "random"}
        optim = {"lr_new": 1e-3, "lr_clip": 1e-4, "schedule": "cosine", "eps": 1e-4}
        return make_run(model=model, optim=optim, **overrides)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


def assert_same_training(folder: Path, reference: Path) -> None:
    """Equal up to rounding: other numbers of processes add in another order."""
    expected = weights(reference)
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=2e-5, msg=name)
    for found, wanted in zip(records(folder), records(reference), strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alone")


@pytest.fixture
def reference(alone: Path, make_gentle: Callable[..., Run], dataset_card: Path) -> Path:
    """The same run in one process."""
    if not (alone / "model").exists():
        train(alone, make_gentle(), dataset_card)
    return alone


@pytest.mark.parametrize(
    ("world", "launch"),
    [(2, {}), (4, {}), (2, {"parallel": "fsdp"}), (2, {"accumulate": 2}), (2, {"parallel": "fsdp", "accumulate": 2})],
)
def test_several_processes_do_what_one_does(
    tmp_path: Path,
    make_gentle: Callable[..., Run],
    dataset_card: Path,
    reference: Path,
    world: int,
    launch: dict[str, object],
) -> None:
    run = make_gentle(launch=launch)
    printed = finish(start(tmp_path, run, dataset_card, world))
    assert "step 12/12" in printed[0]
    assert not any("step" in line for others in printed[1:] for line in others.splitlines())
    assert read_json(tmp_path / "card.json")["processes"] == world
    assert_same_training(tmp_path, reference)
    as_a_stranger = AutoModel.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert type(as_a_stranger).__name__ == "TVTSModel", "also when sharding made another class of it"


@pytest.mark.parametrize(
    ("before", "after"), [((2, "ddp"), (1, "ddp")), ((1, "ddp"), (2, "fsdp")), ((2, "fsdp"), (4, "ddp"))]
)
def test_a_training_continues_on_other_processes(
    tmp_path: Path,
    make_gentle: Callable[..., Run],
    dataset_card: Path,
    reference: Path,
    before: tuple[int, str],
    after: tuple[int, str],
) -> None:
    """Stopped in mid-epoch, and between two records, by its own deadline."""
    world, parallel = before
    run = make_gentle(launch={"parallel": parallel})
    processes = start(tmp_path, run, dataset_card, world, minutes=1e-9)
    assert "out of time: saved step 1 of 12" in finish(processes, status=75)[0]
    world, parallel = after
    printed = finish(start(tmp_path, make_gentle(launch={"parallel": parallel}), dataset_card, world))
    assert "continuing at step 1 of 12" in printed[0]
    assert_same_training(tmp_path, reference)


def test_two_sources_on_two_processes(tmp_path: Path, make_gentle: Callable[..., Run], dataset_card: Path) -> None:
    """Both ways of mixing give the losses of one process."""
    for mixing in ("alternating", "joint"):
        run = make_gentle(data={"datasets": ["toy", "toy"], "mixing": mixing})
        folder = tmp_path / mixing
        finish(start(folder / "two", run, dataset_card, 2, cards=2))
        finish(start(folder / "one", run, dataset_card, 1, cards=2))
        assert_same_training(folder / "two", folder / "one")


def test_captions_alone_on_two_processes(tmp_path: Path, make_gentle: Callable[..., Run], dataset_card: Path) -> None:
    """Where nothing is sorted there is no sorter, and no process waits for its gradients."""
    card = captioned(dataset_card, tmp_path)
    finish(start(tmp_path / "two", make_gentle(), card, 2))
    finish(start(tmp_path / "one", make_gentle(), card, 1))
    assert_same_training(tmp_path / "two", tmp_path / "one")
    assert not any(name.startswith("sorter") for name in weights(tmp_path / "two"))


def captioned(card: Path, folder: Path) -> Path:
    """A data set of the same clips with captions."""
    copy = folder / "results/datasets/captions"
    shutil.copytree(card.parent, copy, ignore=shutil.ignore_patterns(".rows"))
    (folder / "results/corpora").symlink_to(card.parents[2] / "corpora")
    for shard in copy.glob("*.parquet"):
        rows = [row | {"caption": f"clip {row['key']}"} for row in pq.read_table(shard).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows), shard)
    about = read_json(card)
    write_json(copy / "card.json", about | {"settings": about["settings"] | {"text": "caption"}})
    return copy / "card.json"
