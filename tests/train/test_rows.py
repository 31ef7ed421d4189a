"""Rows that all processes of a machine share equal those in the shards, and follow them when they change."""

import dataclasses
import pickle
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tvts.config import UserError
from tvts.train.rows import SPLITS, Rows, Source, read_split
from tvts.train.stage import source as source_of


@pytest.fixture
def source(dataset_card: Path, tmp_path: Path) -> Source:
    """The test dataset, copied."""
    found = source_of(dataset_card)
    shards = [Path(shutil.copy(shard, tmp_path / shard.name)) for shard in found.shards]
    return dataclasses.replace(found, shards=shards)


def written(source: Source) -> set[Path]:
    return set((source.shards[0].parent / ".rows").iterdir())


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_those_of_the_shards(source: Source, split: str) -> None:
    tables = [pq.read_table(shard) for shard in source.shards]
    naive = [row for table in tables for row in table.filter(pc.equal(table["split"], split)).to_pylist()]
    assert list(read_split(source, split)) == naive
    assert len(read_split(source, split)) == len(naive) > 0


def test_other_processes_get_a_path_not_the_rows(source: Source) -> None:
    rows = read_split(source, "train")
    sent = pickle.dumps(rows)
    assert len(sent) < 1000
    received: Rows = pickle.loads(sent)
    assert list(received) == list(rows)


def test_rows_are_written_once_and_again_when_a_shard_changes(source: Source) -> None:
    rows = list(read_split(source, "train"))
    first = written(source)
    read_split(source, "validation")
    assert written(source) == first
    assert len(first) == 2
    kept = read_split(source, "train")
    table = pq.read_table(source.shards[1])
    pq.write_table(table.filter(pc.not_equal(table["key"], rows[-1]["key"])), source.shards[1])
    assert len(read_split(source, "train")) == len(rows) - 1
    assert len(written(source)) == 2
    assert not written(source) & first
    assert list(kept) == rows, "a training that still reads the old rows goes on"


def test_an_empty_split_is_explained(source: Source) -> None:
    for shard in source.shards:
        table = pq.read_table(shard)
        pq.write_table(table.filter(pc.equal(table["split"], "train")), shard)
    with pytest.raises(UserError, match="no validation clips in 2 shards"):
        read_split(source, "validation")
