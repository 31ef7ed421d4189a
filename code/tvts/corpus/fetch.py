"""One shard of a corpus: fetch its videos, cut them into clips, and leave a tar and its index. Killed at any time, it continues.

Tar and index depend on what was found alone. What it took to find it (seconds, attempts) is in `{shard}_stats.json` beside them.
"""

import hashlib
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tvts.config import Fetch, UserError, identity
from tvts.corpus.shards import INDEX_SCHEMA, TarWriter, read_plan, stats_of, with_said
from tvts.corpus.status import RETRYABLE, Failure, Status
from tvts.corpus.transcribe.engine import Reader
from tvts.corpus.work import Work, opened_folder
from tvts.corpus.worker import Worker
from tvts.corpus.youtube import PAUSE_SECONDS, REFUSALS_IN_A_ROW, Turnstile, check_tools
from tvts.files import atomic, read_json, sha256_json, write_json

Source = Literal["youtube", "http", "local"]
Row = dict[str, Any]
BACKOFF_SECONDS = 2.0
"""Pause before the second attempt; doubled before each further one."""
LOG_SECONDS = 10.0
DESCRIBED = ("id", "key", "caption", "span", "start", "duration", "fps", "frames", "width", "height", "audio", "sha256")
"""What a clip's JSON in the tar repeats of its row."""


def _say(line: str) -> None:
    print(line, flush=True)


def fetch_shard(
    plan: Path,
    shard: int,
    source: Source,
    settings: Fetch,
    seed: int,
    tar: Path,
    index: Path,
    log: Callable[[str], None] = _say,
    threads: int = 1,
    videos_per_hour: float = 300.0,
    words: Reader | None = None,
) -> None:
    """Write `tar` and `index` of one shard of `plan`. A video that cannot be used becomes a row of the index with its status.

    `threads` videos are handled at a time. Videos finished by an earlier call with the same settings, killed or complete, are kept, but for
    failures that may have passed and, if `words` reads the transcripts that spans are placed by, videos with another transcript than then.
    `videos_per_hour` is YouTube's share, over all corpora beside this one. Raises UserError if the site refuses to serve or no worker can
    start here (finished videos are kept for the next call).
    """
    if source == "youtube":
        check_tools()
    began = datetime.now(UTC)
    videos = read_plan(plan, shard).to_pylist()
    for video in videos:
        video["said"] = hashlib.sha256(words.source(video["id"])).hexdigest()[:16] if words else None
    made_by = [source, identity(settings), seed]
    with opened_folder(tar, sha256_json(made_by)) as folder:
        work = Work(folder)
        finished = {video["key"]: rows for video in videos if (rows := work.finished(video)) is not None}
        todo = [video for video in videos if video["key"] not in finished]
        if finished:
            log(f"shard {shard}: continuing, {len(finished)} of {len(videos)} videos are finished")
        turnstile = Turnstile(plan.parent.parent / ".youtube.rate", videos_per_hour) if source == "youtube" else None
        with _Lanes(work, source, settings, seed, threads, turnstile, words) as lanes:
            for key, rows in _progress(lanes.handle_all(todo), f"shard {shard}", len(finished), len(videos), log):
                finished[key] = rows
        if work.unchanged(videos, finished):
            work.restore(tar, index)
        else:
            _assemble(videos, finished, work, tar, index)
        _write_stats(stats_of(index), finished, began)
        work.keep(tar, index)
    counts = Counter(rows[0]["status"] for rows in finished.values())
    log(
        f"shard {shard}: {len(videos)} videos: "
        + ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    )


class _Lanes:
    """`threads` videos at a time; each thread has a download worker, a cut worker and a folder of its own."""

    def __init__(
        self,
        work: Work,
        source: Source,
        settings: Fetch,
        seed: int,
        threads: int,
        turnstile: Turnstile | None,
        words: Reader | None,
    ) -> None:
        self.work, self.source, self.settings, self.seed = work, source, settings, seed
        self._turnstile, self._words = turnstile, words
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lane")
        self._local = threading.local()
        self._workers: list[Worker] = []
        self._stopping = threading.Event()
        self._blocked = 0
        self._refusal: UserError | None = None

    def __enter__(self) -> "_Lanes":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._pool.shutdown()
        for worker in self._workers:
            worker.close()

    def handle_all(self, videos: list[Row]) -> Iterator[tuple[str, list[Row]]]:
        """(key, rows) of every video, as they are finished."""
        futures = {self._pool.submit(self._handle, video): video["key"] for video in videos}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def _handle(self, video: Row) -> list[Row]:
        if self._turnstile is not None and not self._stopping.is_set():
            self._turnstile.wait(self._stopping)
        if self._stopping.is_set():
            raise self._refusal or CancelledError
        if self.source != "local":
            self._worker("download").start()
        self._worker("cut").start()  # neither on the video's time
        began = time.monotonic()
        deadline = began + self.settings.timeout_seconds
        for attempt in range(1, self.settings.attempts + 1):
            try:
                rows = self._once(video, deadline)
                break
            except Failure as failure:
                if self._stopping.is_set():
                    raise self._refusal or failure from None
                rows = [{"span": 0, "status": failure.status, "message": failure.message}]
                pause = BACKOFF_SECONDS * 2 ** (attempt - 1)
                if failure.status not in RETRYABLE or time.monotonic() + pause >= deadline:
                    break
                if attempt < self.settings.attempts and self._stopping.wait(pause):
                    raise self._refusal or failure from None
        self._count_refusals(rows[0]["status"], rows[0].get("message"))
        seconds = round(time.monotonic() - began, 3)
        for row in rows:
            row.update(
                id=video["id"], url=video["url"] or video["path"], attempts=attempt, seconds=seconds, said=video["said"]
            )
        self.work.record(video["key"], rows)
        return rows

    def _once(self, video: Row, deadline: float) -> list[Row]:
        """Fetch and cut one video. Its download is gone afterwards, whatever happens."""
        folder = self.work.folder / threading.current_thread().name
        folder.mkdir()
        settings = self.settings.model_dump(mode="json")
        try:
            files = {"video": video["path"], "audio": None}
            if self.source != "local":
                request = {"url": video["url"], "source": self.source, "folder": str(folder), "settings": settings}
                files = self._worker("download").call(request, deadline - time.monotonic())
            stem = str(self.work.folder / video["key"])
            said = [word["start"] for word in self._words.read_safely(video["id"]).words] if self._words else None
            request = {"id": video["id"], **files, "settings": settings, "seed": self.seed, "stem": stem, "said": said}
            rows: list[Row] = self._worker("cut").call(request, deadline - time.monotonic())
            return rows
        except Failure as failure:
            if failure.status == "timeout":
                raise Failure("timeout", f"not finished within {self.settings.timeout_seconds:g} s") from failure
            raise
        finally:
            shutil.rmtree(folder)

    def _worker(self, kind: Literal["download", "cut"]) -> Worker:
        if not hasattr(self._local, kind):
            worker = Worker(kind)
            self._workers.append(worker)
            setattr(self._local, kind, worker)
        found: Worker = getattr(self._local, kind)
        return found

    def _count_refusals(self, status: Status, message: str | None) -> None:
        """Stop asking a site that refuses everything, in all jobs: rows must not blame the videos."""
        self._blocked = self._blocked + 1 if status == "blocked" else 0
        if self._turnstile is not None and self._blocked >= REFUSALS_IN_A_ROW:
            self._turnstile.pause()
            self._refusal = UserError(
                f"the site refused {REFUSALS_IN_A_ROW} videos in a row ({message}); finished videos are kept, run the job again later:"
                f" no job asks for {PAUSE_SECONDS / 60:.0f} minutes"
            )
            self._stopping.set()
            raise self._refusal


def _progress(
    results: Iterator[tuple[str, list[Row]]], name: str, done: int, total: int, log: Callable[[str], None]
) -> Iterator[tuple[str, list[Row]]]:
    """Pass results on: a bar on a terminal, a line every few seconds elsewhere."""
    console = Console(stderr=True)
    text = (TextColumn("{task.description}"), TextColumn("{task.fields[found]}"))
    columns = (text[0], BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), text[1])
    began = told = time.monotonic()
    before, clips, failed = done, 0, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total, completed=done, found="")
        for key, rows in results:
            done += 1
            clips += sum(row["status"] == "ok" for row in rows)
            failed += rows[0]["status"] != "ok"
            bar.update(task, advance=1, found=f"{clips} clips, {failed} failed")
            if not console.is_terminal and time.monotonic() - told >= LOG_SECONDS:
                told = time.monotonic()
                left = (told - began) / (done - before) * (total - done)
                log(f"{name}: {done}/{total} videos, {clips} clips, {failed} failed, about {left:.0f} s left")
            yield key, rows


def _assemble(videos: list[Row], finished: dict[str, list[Row]], work: Work, tar: Path, index: Path) -> None:
    """Write the tar in key order, then the index."""
    rows = []
    with atomic(tar) as temporary, temporary.open("wb") as file:
        writer = TarWriter(file)
        for video in sorted(videos, key=lambda video: str(video["key"])):
            for found in finished[video["key"]]:
                row = {**found, "key": f"{video['key']}_{found['span']:05d}", "caption": video["caption"]}
                if row["status"] == "ok":
                    row["offset"], row["size"] = _add_clip(writer, row, video["url"], work.clip(found))
                rows.append(row)
        writer.close()
    with atomic(index) as temporary:
        table = with_said(pa.Table.from_pylist(rows, INDEX_SCHEMA), {video["key"]: video["said"] for video in videos})
        pq.write_table(table, temporary, compression="zstd")


def _add_clip(writer: TarWriter, row: Row, url: str | None, clip: Path | bytes) -> tuple[int, int]:
    """Members KEY.json, KEY.mp4, KEY.txt as video2dataset names and fills them -> offset and size of the clip."""
    described = {
        **{name: row[name] for name in DESCRIBED},
        "url": url,
        "status": "success",
        "error_message": None,
        "clips": [[row["start"], round(row["start"] + row["duration"], 3)]],
    }
    writer.add(f"{row['key']}.json", json.dumps(described, sort_keys=True, ensure_ascii=False).encode())
    place = writer.add(f"{row['key']}.mp4", clip)
    if row["caption"] is not None:
        writer.add(f"{row['key']}.txt", row["caption"].encode())
    return place


def _write_stats(path: Path, finished: dict[str, list[Row]], began: datetime) -> None:
    """video2dataset's `{shard}_stats.json`, and what the shard has cost in all the calls that made it."""
    ended = datetime.now(UTC)
    heads = [rows[0] for rows in finished.values()]
    before = read_json(path) if path.exists() else {"seconds": 0.0, "attempts": 0}
    statuses = Counter(head["status"] for head in heads)
    write_json(
        path,
        {
            "count": len(heads),
            "successes": statuses["ok"],
            "failed_to_download": len(heads) - statuses["ok"],
            "failed_to_subsample": sum(row["status"] != "ok" for rows in finished.values() for row in rows[1:]),
            "status_dict": statuses,
            "start_time": began.timestamp(),
            "end_time": ended.timestamp(),
            "duration": (ended - began).total_seconds(),
            "clips": sum(row["status"] == "ok" for rows in finished.values() for row in rows),
            "seconds": round(before["seconds"] + sum(head.get("seconds", 0.0) for head in heads), 3),
            "attempts": before["attempts"] + sum(head.get("attempts", 0) for head in heads),
        },
    )
