"""Speech to words with times: a table of engines and the walk over a shard. An engine's libraries load when it is chosen.

A killed walk continues: transcripts are noted down as they are made. Times spent are in `{shard}_stats.json`, not in the transcripts.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tvts.config import UserError, identity
from tvts.config.schema import Transcribe
from tvts.corpus.shards import read_index, stats_of
from tvts.corpus.transcribe.engine import Clip, Engine, Reader, Transcript
from tvts.corpus.transcripts import TRANSCRIPT_SCHEMA, repair_times
from tvts.corpus.work import keep, opened_folder
from tvts.files import atomic, read_json, sha256_json, write_json

ENGINES = {
    "whisper": "Whisper",
    "faster_whisper": "FasterWhisper",
    "pocketsphinx": "PocketSphinx",
    "captions": "Captions",
    "yt_temporal": "YTTemporal",
}
"""Engine name, which is also its module's, -> class."""

PROGRESS_SECONDS = 10.0

Row = dict[str, Any]


def make_engine(settings: Transcribe, threads: int = 1) -> Engine:
    """The engine that `settings` name. Raises `UserError` when it cannot start (no model, no annotations, not installed)."""
    try:
        module = import_module(f"{__name__}.{settings.engine}")
    except ModuleNotFoundError as error:
        package = settings.engine.replace("_", "-")
        raise UserError(
            f"transcribe.engine: {settings.engine} needs the package {error.name}; install 'tvts[{package}]'"
        ) from error
    engine: Engine = getattr(module, ENGINES[settings.engine])(settings, threads)
    return engine


def make_reader(settings: Transcribe | None) -> Reader:
    """The engine that `settings` name, one that reads files."""
    engine = make_engine(settings) if settings else None
    assert isinstance(engine, Reader), "the config allows spans to be placed by words only with such an engine"
    return engine


def transcribe_shard(
    tar: Path, index: Path, settings: Transcribe, output: Path, threads: int = 1, log: Callable[[str], None] = print
) -> None:
    """Write the transcripts of a shard's ok clips, in index order (`TRANSCRIPT_SCHEMA`).

    A clip that cannot be transcribed is a row with its status and message. What an earlier call has heard, killed or complete, is not heard
    again, unless settings, model or clip changed or it was `internal` in a complete shard. Raises `UserError` when the engine itself cannot
    start or the tar cannot be read.
    """
    clips = [_clip(tar, row) for row in read_index(index).to_pylist() if row["status"] == "ok"]
    engine = make_engine(settings, threads)
    made_by = sha256_json([identity(settings), engine.model])
    with opened_folder(output, made_by) as folder:
        kept, journal = folder / "shard.parquet", folder / "rows.jsonl"
        # files that are read may have changed, and reading them again is quick
        known = {} if isinstance(engine, Reader) else _kept(kept)
        todo = [clip for clip in clips if (clip.key, clip.sha256) not in known]
        noted = [] if isinstance(engine, Reader) else _noted(journal, todo, settings.batch_size)
        if noted:
            log(f"continuing, {len(noted)} of {len(todo)} clips are transcribed")
        heard = _hear(engine, todo[len(noted) :], settings.engine, journal, noted, log)
        rows = {(row["key"], row["sha256"]): row for row in chain(noted, heard)}
        with atomic(output) as temporary:
            table = [known.get((clip.key, clip.sha256)) or rows[clip.key, clip.sha256] for clip in clips]
            pq.write_table(pa.Table.from_pylist(table, TRANSCRIPT_SCHEMA), temporary, compression="zstd")
        _write_stats(stats_of(output), settings.engine, list(rows.values()))
        keep(folder, {output: kept})


def _clip(tar: Path, row: Row) -> Clip:
    names = ("key", "id", "start", "duration", "audio", "sha256", "offset", "size")
    return Clip(tar=tar, **{name: row[name] for name in names})


def _kept(path: Path) -> dict[tuple[str, str], Row]:
    """Rows of the shard as it was transcribed before; clips that an engine stumbled over are heard again."""
    with contextlib.suppress(FileNotFoundError, pa.ArrowInvalid):
        rows = pq.read_table(path, schema=TRANSCRIPT_SCHEMA).to_pylist()
        return {(row["key"], row["sha256"]): row for row in rows if row["status"] != "internal"}
    return {}


def _noted(journal: Path, todo: list[Clip], batch_size: int) -> list[Row]:
    """Rows of a killed call, whole batches alone: the clips of a batch are decoded together again or not at all."""
    rows: list[Row] = []
    if journal.exists():
        lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
        for line, clip in zip(lines, todo, strict=False):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # a lost node leaves zeros
                break
            if (row["key"], row["sha256"]) != (clip.key, clip.sha256):
                break
            rows.append(row)
    whole = len(rows) if len(rows) == len(todo) else len(rows) // batch_size * batch_size
    return rows[:whole]


def _hear(
    engine: Engine, clips: list[Clip], name: str, journal: Path, noted: list[Row], log: Callable[[str], None]
) -> Iterator[Row]:
    """Rows of `clips`, each noted down, after those noted before."""
    total, done, heard, failed = len(noted) + len(clips), len(noted), 0.0, 0
    begun = told = time.perf_counter()
    with atomic(journal) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in noted), encoding="utf-8")
    with journal.open("a", encoding="utf-8") as notes:
        for clip, transcript in zip(clips, engine.transcribe(clips), strict=True):
            row = _row(clip, transcript, name, engine.model)
            notes.write(json.dumps(row) + "\n")
            notes.flush()
            done, heard, failed = done + 1, heard + clip.duration, failed + (row["status"] == "internal")
            if time.perf_counter() - told > PROGRESS_SECONDS or done == total:
                told = time.perf_counter()
                speed, left = (told - begun) / heard, (told - begun) / (done - len(noted)) * (total - done)
                log(
                    f"transcribed {done}/{total} clips, {failed} failed, {speed:.3f} s per second of audio, {left:.0f} s left"
                )
            yield row


def _row(clip: Clip, transcript: Transcript, engine: str, model: str | None) -> Row:
    words, repairs = repair_times(transcript.words, clip.duration)
    status = "no_speech" if transcript.status == "ok" and not words else transcript.status
    return {
        "key": clip.key,
        "id": clip.id,
        "sha256": clip.sha256,
        "language": transcript.language,
        "engine": engine,
        "model": model,
        "words": words,
        "flags": [*transcript.flags, *repairs],
        "status": status,
        "message": transcript.message,
        "duration": clip.duration,
        "seconds": round(transcript.seconds, 3),
    }


def _write_stats(path: Path, engine: str, rows: list[Row]) -> None:
    """What the transcripts have cost in all the calls that made them: clips, seconds of sound, seconds spent."""
    before = read_json(path) if path.exists() else {}
    if before.get("engine") != engine:
        before = {"clips": 0, "audio_seconds": 0.0, "seconds": 0.0}
    write_json(
        path,
        {
            "engine": engine,
            "clips": before["clips"] + len(rows),
            "audio_seconds": round(before["audio_seconds"] + sum(row["duration"] for row in rows), 3),
            "seconds": round(before["seconds"] + sum(row["seconds"] for row in rows), 3),
        },
    )
