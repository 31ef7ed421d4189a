"""The dataset stage: clips and their transcripts become rows that training reads, and a card that counts what was lost on the way.

A shard depends on its own index and transcripts alone. What the card needs to know about a shard travels in the metadata of the shard's
Parquet file, so that the card of thousands of shards reads thousands of small footers. Times spent are no part of the card (equal inputs,
equal bytes): they are summed up in `cost.json` beside it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tvts.config import Dataset, UserError
from tvts.corpus.plan import plan_facts
from tvts.corpus.shards import read_index, stats_of
from tvts.corpus.transcripts import REJECTING, TRANSCRIPT_SCHEMA, WORDS, clean
from tvts.corpus.windows import fixed_windows, share, usable_windows
from tvts.files import atomic, read_json, sha256_file, sha256_json, write_json

DATASET_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("shard", pa.int32()),
        ("split", pa.string()),
        ("duration", pa.float64()),
        ("fps", pa.float64()),
        ("frames", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("keyframes", pa.list_(pa.int32())),
        ("words", WORDS),
        ("caption", pa.string()),
        ("windows", pa.list_(pa.struct([("start", pa.float32()), ("length", pa.float32())]))),
        (
            "fixed",
            pa.list_(pa.struct([("start", pa.float32()), ("length", pa.float32()), ("order", pa.list_(pa.int32()))])),
        ),
    ]
)

_FACTS = b"tvts"
_FROM_INDEX = ("key", "id", "duration", "fps", "frames", "offset", "size", "keyframes")

Row = dict[str, Any]


def split_of(id: str, validation_share: float) -> str:
    """`validation` or `train`, by the video's id alone: a video stays on its side in every dataset."""
    return "validation" if share("split", id) < validation_share else "train"


def build_shard(index: Path, transcripts: Path | None, settings: Dataset, output: Path) -> None:
    """Write the usable clips of shard `index` (`{shard}.parquet`), in index order (`DATASET_SCHEMA`).

    `transcripts` is the shard's transcripts, or none for datasets of captions. Raises `UserError` if they do not belong to the index.
    """
    clips = read_index(index)
    heard = None if settings.text == "caption" else _read_transcripts(transcripts, index)
    inputs = [_content_sha256(table) for table in (clips, heard) if table is not None]
    ok = [row for row in clips.to_pylist() if row["status"] == "ok"]
    facts = {
        "statuses": Counter(clips["status"].to_pylist()),
        "downloaded": len({row["id"] for row in ok}),
        "clips": len(ok),
        "seconds": sum(row["duration"] for row in ok),
        "inputs": inputs,
    }
    rows, more = _captioned(ok) if heard is None else _transcribed(ok, _by_key(heard, ok, index), settings)
    shard = int(index.stem)
    rows = [row | {"shard": shard, "split": split_of(row["id"], settings.validation_share)} for row in rows]
    for row in rows:
        chosen = fixed_windows(row["windows"], row["key"], settings) if row["split"] == "validation" else []
        row["fixed"] = [{"start": start, "length": length, "order": order} for start, length, order in chosen]
        row["windows"] = [{"start": start, "length": length} for start, length in row["windows"]]
    facts |= more | _sums(rows)
    schema = DATASET_SCHEMA.with_metadata({_FACTS: json.dumps(facts, sort_keys=True)})
    with atomic(output) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary, compression="zstd")


def _captioned(clips: list[Row]) -> tuple[list[Row], Row]:
    """Clips with a caption, and the counts of what was found."""
    rows = [
        {name: clip[name] for name in _FROM_INDEX} | {"caption": clip["caption"].strip(), "words": [], "windows": []}
        for clip in clips
        if (clip["caption"] or "").strip()
    ]
    return rows, {
        "captioned": len(rows),
        "rules": {"no_caption": len(clips) - len(rows)},
        "words": sum(len(row["caption"].split()) for row in rows),
    }


def _transcribed(clips: list[Row], transcripts: dict[str, Row], settings: Dataset) -> tuple[list[Row], Row]:
    """Clips with at least one usable window, and the counts of what was found and lost."""
    rows, rules, languages, statuses, kept, spoken = [], Counter[str](), Counter[str](), Counter[str](), 0, 0
    for clip in clips:
        transcript = transcripts[clip["key"]]
        statuses[transcript["status"]] += 1
        if transcript["status"] != "ok":
            continue
        words, fired = clean(transcript["words"], clip["duration"], settings.cleaning)
        fired = sorted({*transcript["flags"], *fired})
        languages[transcript["language"] or "unknown"] += 1
        rejected = bool(REJECTING.intersection(fired))
        windows = [] if rejected else usable_windows(words, clip["duration"], settings)
        rules.update(fired if rejected or windows else [*fired, "no_window"])
        kept += not rejected
        if windows:
            spoken += len(words)
            rows.append(
                {name: clip[name] for name in _FROM_INDEX}
                | {"caption": clip["caption"], "words": words, "windows": windows}
            )
    return rows, {
        "transcripts": statuses,
        "transcribed": statuses["ok"],
        "clean": kept,
        "rules": rules,
        "languages": languages,
        "words": spoken,
    }


def _sums(rows: list[Row]) -> Row:
    splits = ("train", "validation")
    return {
        "usable": len(rows),
        "usable_seconds": sum(row["duration"] for row in rows),
        "windows": sum(len(row["windows"]) for row in rows),
        "fixed": sum(len(row["fixed"]) for row in rows),
        "split_clips": {split: sum(row["split"] == split for row in rows) for split in splits},
        "split_videos": {split: len({row["id"] for row in rows if row["split"] == split}) for split in splits},
    }


def _read_transcripts(path: Path | None, index: Path) -> pa.Table:
    if path is None:
        raise UserError(
            f"{index}: text: transcript needs transcripts; set `transcribe` of its corpus, or use text: caption"
        )
    return pq.read_table(path, schema=TRANSCRIPT_SCHEMA)


def _by_key(transcripts: pa.Table, clips: list[Row], index: Path) -> dict[str, Row]:
    found = {row["key"]: row for row in transcripts.to_pylist()}
    if {(key, row["sha256"]) for key, row in found.items()} != {(clip["key"], clip["sha256"]) for clip in clips}:
        raise UserError(f"{index}: its transcripts belong to other clips; transcribe this shard again")
    return found


def _content_sha256(table: pa.Table) -> str:
    """Hash of a table's content, however it is stored."""
    table = table.replace_schema_metadata()
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def build_card(plan: Path, clips: Path, shards: Path, settings: Dataset, output: Path) -> None:
    """Write a dataset's card: funnel, counts per status and rule, hours, words, languages, duplicates, hash of the inputs.

    `clips` and `shards` are the folders of the corpus's indexes and of the dataset's shards; the plan's shards are read. Equal inputs
    give equal bytes. Raises UserError if a shard is missing.
    """
    listed = plan_facts(plan)
    facts = [_facts(path) for path in _shards(plan, shards)]
    indexes = _shards(plan, clips)
    write_json(
        output,
        {
            "list": {name: listed[name] for name in ("listed", "duplicates", "invalid")},
            "funnel": _funnel(pq.read_metadata(plan).num_rows, facts, settings),
            "statuses": _counted(facts, "statuses"),
            "transcripts": _counted(facts, "transcripts"),
            "rules": _counted(facts, "rules"),
            "languages": _counted(facts, "languages"),
            "hours": {"clips": _hours(facts, "seconds"), "usable": _hours(facts, "usable_seconds")},
            "words": _total(facts, "words"),
            "clips": _counted(facts, "split_clips"),
            "videos": _counted(facts, "split_videos"),
            "fixed_windows": _total(facts, "fixed"),
            "duplicates": {
                "videos_same_frames": _copies(indexes, "frames_hash"),
                "videos_same_audio": _copies(indexes, "audio_hash"),
                "clips": _copies(indexes, "sha256"),
            },
            "inputs_sha256": sha256_json(
                [settings.model_dump(), sha256_file(plan), [shard["inputs"] for shard in facts]]
            ),
            "settings": settings.model_dump(),
        },
    )


def build_cost(plan: Path, clips: Path, transcripts: Path | None, output: Path) -> None:
    """Write what the clips and transcripts have cost, from the `{shard}_stats.json` in their folders.

    `download`: videos, clips, attempts, seconds, and seconds per clip; per engine in `real_time_factor`: seconds per second of sound.
    """
    cut = [read_json(stats_of(path)) for path in _shards(plan, clips) if stats_of(path).exists()]
    spent, heard = Counter[str](), Counter[str]()
    for path in _shards(plan, transcripts) if transcripts else ():
        if stats_of(path).exists():
            stats = read_json(stats_of(path))
            spent[stats["engine"]] += stats["seconds"]
            heard[stats["engine"]] += stats["audio_seconds"]
    totals = {name: round(sum(shard[name] for shard in cut), 3) for name in ("count", "clips", "attempts", "seconds")}
    write_json(
        output,
        {
            "download": totals | {"seconds_per_clip": _ratio(totals["seconds"], totals["clips"])},
            "real_time_factor": {engine: _ratio(spent[engine], heard[engine]) for engine in spent},
        },
    )


def _shards(plan: Path, folder: Path) -> list[Path]:
    """A file of every shard of the plan; others that lie in the folder (of a corpus with more shards) do not count."""
    return [folder / f"{number:05d}.parquet" for number in range(plan_facts(plan)["shards"])]


def _facts(shard: Path) -> Row:
    try:
        facts: Row = json.loads(pq.read_schema(shard).metadata[_FACTS])
    except FileNotFoundError as error:
        raise UserError(f"{shard}: no such shard; run the stage that writes it") from error
    return facts


def _ratio(spent: float, made: float) -> float | None:
    return round(spent / made, 4) if made else None


def _funnel(urls: int, facts: list[Row], settings: Dataset) -> list[Row]:
    middle = [("captioned", "clips")] if settings.text == "caption" else [("transcribed", "clips"), ("clean", "clips")]
    stages = [("downloaded", "videos"), ("clips", "clips"), *middle, ("usable", "clips"), ("windows", "windows")]
    counted = [{"stage": stage, "count": _total(facts, stage), "unit": unit} for stage, unit in stages]
    return [
        {"stage": "urls", "count": urls, "unit": "videos"},
        *(counted[:-1] if settings.text == "caption" else counted),
    ]


def _total(facts: Iterable[Row], name: str) -> int:
    return sum(shard[name] for shard in facts)


def _hours(facts: list[Row], name: str) -> float:
    return round(sum(shard[name] for shard in facts) / 3600, 4)


def _counted(facts: list[Row], name: str) -> dict[str, int]:
    return dict(sum((Counter(shard.get(name, {})) for shard in facts), Counter()))


def _copies(indexes: Sequence[Path], column: str) -> int:
    """How many could go without losing a value of `column`: per video (its first span), or per clip for `sha256`. Compares 64 bits."""
    hashes = [np.empty(0, np.uint64)]
    for index in indexes:
        table = pq.read_table(index, columns=[column, "span"])
        if column != "sha256":
            table = table.filter(pc.equal(table["span"], 0))
        values = table[column].drop_null().to_pylist()
        hashes.append(np.fromiter((int(value[:16], 16) for value in values), np.uint64))
    every = np.concatenate(hashes)
    return len(every) - len(np.unique(every))


def data_hash(cards: Sequence[Path]) -> str:
    """Hash of what a training on the datasets of `cards` learns from: their inputs and settings."""
    facts = [json.loads(path.read_text(encoding="utf-8")) for path in cards]
    return sha256_json([[card["inputs_sha256"], card["settings"]] for card in facts])
