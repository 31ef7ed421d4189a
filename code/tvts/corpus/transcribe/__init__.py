"""Speech to words with times: a table of engines and the walk over a shard. An engine's libraries load when it is chosen."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tvts.config.schema import Transcribe
from tvts.corpus.shards import read_index
from tvts.corpus.transcribe.engine import Clip, Engine, Transcript
from tvts.corpus.transcripts import TRANSCRIPT_SCHEMA, repair_times
from tvts.files import atomic

ENGINES = {
    "whisper": "Whisper",
    "pocketsphinx": "PocketSphinx",
    "captions": "Captions",
    "yt_temporal": "YTTemporal",
}
"""Engine name, which is also its module's, -> class."""

PROGRESS_SECONDS = 10.0


def transcribe_shard(
    tar: Path, index: Path, settings: Transcribe, output: Path, threads: int = 1, log: Callable[[str], None] = print
) -> None:
    """Write the transcripts of a shard's ok clips, in index order (`TRANSCRIPT_SCHEMA`).

    A clip that cannot be transcribed is a row with its status and message. Raises `UserError` when the engine itself cannot start
    (no model, no annotations).
    """
    clips = [_clip(tar, row) for row in read_index(index).to_pylist() if row["status"] == "ok"]
    engine: Engine = getattr(import_module(f"{__name__}.{settings.engine}"), ENGINES[settings.engine])(
        settings, threads
    )
    rows, begun, told = [], time.perf_counter(), time.perf_counter()
    for clip, transcript in zip(clips, engine.transcribe(clips), strict=True):
        rows.append(_row(clip, transcript, settings.engine, engine.model))
        if time.perf_counter() - told > PROGRESS_SECONDS or len(rows) == len(clips):
            told = time.perf_counter()
            log(_progress(rows, len(clips), told - begun))
    with atomic(output) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, TRANSCRIPT_SCHEMA), temporary, compression="zstd")


def _clip(tar: Path, row: dict) -> Clip:
    names = ("key", "id", "start", "duration", "audio", "offset", "size")
    return Clip(tar=tar, **{name: row[name] for name in names})


def _row(clip: Clip, transcript: Transcript, engine: str, model: str | None) -> dict:
    words, repairs = repair_times(transcript.words, clip.duration)
    status = "no_speech" if transcript.status == "ok" and not words else transcript.status
    return {
        "key": clip.key,
        "id": clip.id,
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


def _progress(rows: list[dict], clips: int, elapsed: float) -> str:
    heard = sum(row["duration"] for row in rows)
    failed = sum(row["status"] == "internal" for row in rows)
    left = elapsed / len(rows) * (clips - len(rows))
    return (
        f"transcribed {len(rows)}/{clips} clips, {failed} failed, {elapsed / max(heard, 1e-9):.3f} s per second of audio, "
        f"{left:.0f} s left"
    )
