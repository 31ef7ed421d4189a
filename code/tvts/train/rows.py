"""Rows of a dataset in Arrow files that all processes of a machine map: the words of millions of clips are tens of gigabytes, held once."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tvts.config import UserError
from tvts.config.schema import Dataset
from tvts.files import atomic, sha256_json

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Source:
    """A dataset on disk: its settings, its shards, and the folder of its corpus' clips."""

    name: str
    settings: Dataset
    shards: Sequence[Path]
    clips: Path


class Rows(Sequence[dict[str, Any]]):
    """Rows of one split, read when asked for. Goes to other processes as a path, never as its content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pa.memory_map(str(path)) as file:
            self.table = pa.ipc.open_file(file).read_all()

    def __reduce__(self) -> tuple[type["Rows"], tuple[Path]]:
        return Rows, (self.path,)

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, number: Any) -> Any:
        return self.table.slice(number, 1).to_pylist()[0]


def read_split(source: Source, split: str) -> Rows:
    """Rows of a source that belong to `split`, in the order of its shards. Raises UserError when there are none."""
    rows = Rows(write_rows(source)[split])
    if not len(rows):
        raise UserError(
            f"dataset {source.name}: no {split} clips in {len(source.shards)} shards; see its card.json for where they were lost"
        )
    return rows


def write_rows(source: Source) -> dict[str, Path]:
    """The file of each split, in the hidden folder `.rows` beside the shards; written when the shards have changed since."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in source.shards]
    folder, version = source.shards[0].parent / ".rows", sha256_json(stats)[:16]
    files = {split: folder / f"{split}-{version}.arrow" for split in SPLITS}
    if all(path.exists() for path in files.values()):
        return files
    with contextlib.ExitStack() as stack:
        schema = pq.read_schema(source.shards[0]).remove_metadata()
        writers = {
            split: stack.enter_context(pa.ipc.new_file(stack.enter_context(atomic(path)), schema))
            for split, path in files.items()
        }
        for shard in source.shards:
            table = pq.read_table(shard, schema=schema)
            for split, writer in writers.items():
                writer.write_table(table.filter(pc.equal(table["split"], split)))
    for outdated in set(folder.glob("*.arrow")) - set(files.values()):
        outdated.unlink(missing_ok=True)  # who has it mapped keeps it
    return files
