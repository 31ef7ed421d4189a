"""Checkpoints: damaged ones are passed over, others' are refused or set aside, one trainer writes at a time, none stalls training."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.train.conftest import equal, train

from tvts.config import Run, UserError
from tvts.files import read_json, write_json
from tvts.train.checkpoint import Writer, find_latest, read_state, save, writer_lock


def facts(finished: bool, **settings: object) -> dict[str, object]:
    return {"settings": settings, "finished": finished}


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    said: list[str] = []
    for step in (1, 2):
        save(tmp_path, step, {"weight": torch.full((3,), float(step))}, facts(False, lr=1), keep=2)
    content = bytearray((tmp_path / "step-00000002.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "step-00000002.pt").write_bytes(content)
    found = find_latest(tmp_path, {"lr": 1}, said.append)
    assert found is not None
    assert found[1]["step"] == 1
    assert torch.equal(read_state(found[0])["weight"], torch.ones(3))
    assert "step-00000002.pt is damaged" in said[0]
    save(tmp_path, 3, {"weight": torch.full((3,), 3.0)}, facts(False, lr=1), keep=2)
    assert [path.name for path in sorted(tmp_path.glob("step-*.json"))] == ["step-00000001.json", "step-00000003.json"]
    assert (tmp_path / "damaged-step-00000002.pt").exists(), "kept, but out of the way of those that count"


def test_an_unfinished_training_of_other_settings_is_refused_with_the_differing_keys(tmp_path: Path) -> None:
    for step in range(5):
        save(tmp_path, step, {}, facts(False, optim={"lr": 1}, seed=0), keep=2)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["step-00000003.json", "step-00000004.json"]
    with pytest.raises(
        UserError, match=r"holds step 4 of an unfinished training .*optim.lr: 1 then, 2 now\); put them back"
    ):
        find_latest(tmp_path, {"optim": {"lr": 2}, "seed": 0}, print)
    assert len(list(tmp_path.glob("step-*.pt"))) == 2


def test_a_finished_training_of_other_settings_is_set_aside(tmp_path: Path) -> None:
    said: list[str] = []
    save(tmp_path, 4, {}, facts(True, seed=0), keep=2)
    assert find_latest(tmp_path, {"seed": 1}, said.append) is None
    assert "seed: 0 then, 1 now" in said[0]
    assert not list(tmp_path.glob("step-*"))
    assert len(list(tmp_path.glob("before-*/step-*.pt"))) == 1


def test_other_data_means_training_anew(tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path) -> None:
    first = train(tmp_path / "run", make_run(), dataset_card)
    copy = tmp_path / "results"
    shutil.copytree(dataset_card.parents[2], copy)
    card = copy / "datasets/toy/card.json"
    write_json(card, read_json(card) | {"inputs_sha256": "others"})
    shard = card.parent / "00000.parquet"
    rows = pq.read_table(shard).to_pylist()
    pq.write_table(pa.Table.from_pylist(rows[2:]), shard)
    assert not equal(first, train(tmp_path / "run", make_run(), card))


def test_two_trainers_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        writer_lock(tmp_path),
        pytest.raises(UserError, match="another trainer is writing here"),
        writer_lock(tmp_path),
    ):
        pass


def test_writing_goes_on_beside_training_in_order_and_its_errors_arrive() -> None:
    writer, gate, done = Writer(), threading.Event(), []
    writer.write(lambda: done.append(gate.wait(30)))
    writer.write(lambda: done.append("second"))
    assert done == []  # both are accepted while the first is still being written
    gate.set()
    writer.finish()
    assert done == [True, "second"]

    def full() -> None:
        raise OSError("no space left on device")

    writer.write(full)
    with pytest.raises(OSError, match="no space left"):
        writer.finish()
