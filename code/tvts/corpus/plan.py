"""The plan of a corpus: which videos there are and which shard each belongs to, decided once from the list.

A video's key and shard are functions of its id alone, so that neither moves when the list grows, shrinks or is reordered.
"""

import hashlib
import json
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tvts.config import Corpus, UserError
from tvts.corpus.lists import read_list
from tvts.corpus.shards import PLAN_SCHEMA
from tvts.corpus.sources import addresses, defects
from tvts.corpus.status import one_line
from tvts.files import atomic

KEY_DIGITS = 19
ROW_GROUP = 50_000
FACTS = b"tvts"
REJECTED_SCHEMA = pa.schema([("id", pa.string()), ("kind", pa.string())])


class PlanFacts(TypedDict):
    """What a plan says of its list: lines, lines with an id listed before, lines that cannot be used by kind; and its shards."""

    listed: int
    duplicates: int
    invalid: dict[str, int]
    shards: int


def plan(corpus: Corpus, output: Path) -> None:
    """Read the corpus's list, keep valid rows (the first of equal ids), and write them to `output`, sorted by shard and key.

    Rows left out are counted in the file's schema metadata (key `tvts`: listed, duplicates, invalid by kind, shards), told in one line per
    kind, and listed in `rejected.parquet` beside it (id, kind). Raises UserError if the list is missing, unreadable or without a valid row.
    """
    table, unparsed = read_list(corpus)
    listed = len(table) + unparsed
    invalid = {"line that cannot be parsed": unparsed} if unparsed else {}
    rejected = [REJECTED_SCHEMA.empty_table()]
    usable = pa.chunked_array([np.ones(len(table), bool)])
    for kind, mask in defects(table, corpus).items():
        fresh = pc.and_(mask, usable)
        if count := pc.sum(fresh).as_py():
            invalid[kind] = count
            ids = table["id"].filter(fresh)
            rejected.append(pa.table([ids, pa.repeat(kind, count)], schema=REJECTED_SCHEMA))
            example = ids[0].as_py()
            print(f"warning: {corpus.list}: {count} of {listed} rows left out: {kind}; the first has id {example!r}")
        usable = pc.and_not(usable, mask)
    rows = np.flatnonzero(usable.to_numpy())
    if not len(rows):
        raise UserError(f"corpus list {corpus.list}: no valid row among {listed}; {corpus.obtain}")
    keys = hash_ids(table["id"].filter(usable))
    _, first = np.unique(keys, return_index=True)
    if duplicates := len(keys) - len(first):
        print(f"warning: {corpus.list}: {duplicates} of {listed} rows left out: id listed before")
        again = np.ones(len(keys), bool)
        again[first] = False
        ids = table["id"].take(rows[again])
        rejected.append(pa.table([ids, pa.repeat("id listed before", duplicates)], schema=REJECTED_SCHEMA))
    with atomic(output.with_name("rejected.parquet")) as temporary:
        pq.write_table(pa.concat_tables(rejected), temporary, compression="zstd")
    first = first[np.argsort(_shards(keys[first], corpus), kind="stable")]
    facts: PlanFacts = {"listed": listed, "duplicates": duplicates, "invalid": invalid, "shards": corpus.shards}
    _write(table, rows[first], keys[first], corpus, output, facts)
    print(f"{output}: {len(first)} videos of {listed} listed, in {corpus.shards} shards")


def plan_facts(path: Path) -> PlanFacts:
    """What the plan says of its list. Raises UserError if the file is not a plan."""
    try:
        facts: PlanFacts = json.loads(pq.read_schema(path).metadata[FACTS])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        reason = one_line(str(error))
        raise UserError(f"{path}: not a readable plan ({reason}); delete it and rerun the stage") from error
    return facts


def hash_ids(ids: pa.ChunkedArray) -> np.ndarray:
    """uint64 [N]: 63 bits of BLAKE2b of each id."""
    blake2b = hashlib.blake2b
    parts = [
        np.frombuffer(b"".join(blake2b(text.encode(), digest_size=8).digest() for text in batch.to_pylist()), "<u8")
        for chunk in ids.chunks
        for batch in (chunk.slice(start, ROW_GROUP) for start in range(0, len(chunk), ROW_GROUP))
    ]
    return np.concatenate(parts) >> np.uint64(1)


def _shards(keys: np.ndarray, corpus: Corpus) -> np.ndarray:
    return (keys % np.uint64(corpus.shards)).astype(np.int32)


def _write(table: pa.Table, rows: np.ndarray, keys: np.ndarray, corpus: Corpus, output: Path, facts: PlanFacts) -> None:
    """Write the given rows of the list, group by group."""
    schema = PLAN_SCHEMA.with_metadata({FACTS: json.dumps(facts, sort_keys=True)})
    whole = _in_one_piece(table)
    with atomic(output) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for at in range(0, len(rows), ROW_GROUP):
            group, key = whole.take(rows[at : at + ROW_GROUP]).cast(table.schema), keys[at : at + ROW_GROUP]
            url, path = addresses(group, corpus)
            caption = group["caption"] if "caption" in group.column_names else pa.nulls(len(group), pa.string())
            text = pc.utf8_lpad(pc.cast(pa.array(key), pa.string()), KEY_DIGITS, "0")
            writer.write_table(pa.table([group["id"], url, path, caption, _shards(key, corpus), text], schema=schema))


def _in_one_piece(table: pa.Table) -> pa.Table:
    """`table` of strings as one chunk: taking rows from many joins them first, each time, and fails above 2 GiB."""
    return table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names])).combine_chunks()
