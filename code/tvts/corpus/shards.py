"""Shards: a webdataset tar of clips, the Parquet index that finds each clip in it, and the plan that says which videos belong to it."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tvts.config import UserError

PLAN_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("path", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
    ]
)

INDEX_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("span", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("message", pa.string()),
        pa.field("url", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("start", pa.float64()),
        pa.field("duration", pa.float64()),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64()),
        pa.field("fps", pa.float64()),
        pa.field("frames", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("keyframes", pa.list_(pa.int32())),
        pa.field("sha256", pa.string()),
        pa.field("audio", pa.bool_()),
        pa.field("frames_hash", pa.string()),
        pa.field("audio_hash", pa.string()),
    ]
)

SAID = b"said"


def stats_of(shard: Path) -> Path:
    """Where it is written what a file of a shard has cost: beside it, as video2dataset names it."""
    return shard.with_name(f"{shard.stem}_stats.json")


def read_plan(path: Path, shard: int) -> pa.Table:
    """The rows of one shard, in key order. Reads the row groups of that shard alone."""
    return _read(path, PLAN_SCHEMA, "plan", filters=[("shard", "=", shard)])


def read_index(path: Path) -> pa.Table:
    """The index of a shard: one row per id and span, failed ones included. Raises UserError if the file is not one."""
    return _read(path, INDEX_SCHEMA, "index of clips")


def _read(path: Path, schema: pa.Schema, what: str, filters: list[tuple[str, str, int]] | None = None) -> pa.Table:
    try:
        found = pq.read_schema(path)
        missing = [
            field.name
            for field in schema
            if field.name not in found.names or found.field(field.name).type != field.type
        ]
        if missing:
            raise UserError(
                f"{path}: not a {what}: column {missing[0]!r} is missing or has another type; delete it and rerun the stage"
            )
        return pq.read_table(path, columns=schema.names, filters=filters)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such {what}; run the stage that writes it") from error
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a readable {what} ({error}); delete it and rerun the stage") from error


def with_said(index: pa.Table, said: dict[str, str | None]) -> pa.Table:
    """`index` with, in its metadata, the hash of the transcript by which a video's spans were placed; as it is where none was."""
    if not any(said.values()):
        return index
    return index.replace_schema_metadata({SAID: json.dumps(said, sort_keys=True)})


def said_in(index: pa.Table) -> dict[str, str]:
    """What `with_said` noted: key of a video -> hash of its transcript."""
    found: dict[str, str] = json.loads((index.schema.metadata or {}).get(SAID, "{}"))
    return found


def read_member(tar: Path, offset: int, size: int) -> bytes:
    """`size` bytes at `offset`: one positional read, no tar parsing. Raises EOFError if the tar is shorter."""
    descriptor = os.open(tar, os.O_RDONLY)
    try:
        data = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise EOFError(
            f"{tar}: {size} bytes expected at offset {offset}, {len(data)} are there; it is not the tar its index describes"
        )
    return data


class TarWriter:
    """A webdataset tar whose bytes depend on its members alone: fixed time, owner and mode, as webdataset's own writer sets them."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, name: str, content: bytes | Path) -> tuple[int, int]:
        """Append a member; returns offset and size of its content in the tar, bytes."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uname, info.gname = size, 0o444, "bigdata", "bigdata"
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            self._tar.addfile(info, file)
        return self._tar.offset - -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, size

    def close(self) -> None:
        """Write the end of the archive; the file stays open."""
        self._tar.close()
