"""The hidden folder beside a shard in which its job works: what is finished is found again by the next job, whatever ended the last one.

While a shard is made, each finished video lies there (its clips, and a JSON file of its rows, written last). Once it is complete, the
shard itself lies there under a second name (a hard link: no space), because Snakemake deletes a job's outputs before it runs it again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tvts.config import UserError
from tvts.corpus.media.container import MEMBER
from tvts.corpus.shards import read_index, read_member, said_in
from tvts.corpus.status import PASSING
from tvts.files import atomic, read_json, sha256_file, write_json

Row = dict[str, Any]
MARK = "settings"


@contextlib.contextmanager
def opened_folder(output: Path, fingerprint: str) -> Iterator[Path]:
    """The work folder of `output`, for one process at a time: others wait (jobs outlive a workflow that was killed).

    It is emptied if it was left by a job with another `fingerprint`; half-finished downloads and half-written outputs of killed jobs go.
    """
    folder = output.parent / f".{output.stem}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / MARK).open("a+") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        mark.seek(0)
        other = mark.read() != fingerprint
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif other and path.name != MARK:
                path.unlink()
        for stray in output.parent.glob(f".{output.stem}[._]*"):
            shutil.rmtree(stray)
        if other:
            mark.truncate(0)
            mark.write(fingerprint)
            mark.flush()
        yield folder


def keep(folder: Path, files: dict[Path, Path]) -> None:
    """The outputs are complete: each gets a second name in the work folder, and nothing else stays there.

    Where a file system knows no links nothing is kept.
    """
    with contextlib.suppress(OSError):
        for file, kept in files.items():
            _link(file, kept)
    for path in folder.iterdir():
        if path.name != MARK and path not in files.values():
            path.unlink()


def reopen(clips: Path) -> tuple[int, int]:
    """Have the workflow make those shards of a corpus again in which a failure may have passed; returns the numbers of shards and videos.

    Takes away their indexes, and the cards of the datasets made from the corpus, as Snakemake makes a missing file again only for one that
    is wanted. Only the failed videos are then handled: the rest is kept.
    """
    shards, videos = 0, 0
    for index in sorted(clips.glob("*.parquet")):
        rows = pq.read_table(index, columns=["id", "status"]).to_pylist()
        passing = {row["id"] for row in rows if row["status"] in PASSING}
        if passing:
            index.unlink()
            shards, videos = shards + 1, videos + len(passing)
    for card in clips.resolve().parents[2].glob("datasets/*/card.json") if shards else ():
        if read_json(card)["settings"]["corpus"] == clips.resolve().parent.name:
            card.unlink()
    return shards, videos


class Work:
    """What is finished of a shard of clips, in its opened work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tar, self._index = folder / "shard.tar", folder / "shard.parquet"
        self._kept = self._read_kept()

    def finished(self, video: Row) -> list[Row] | None:
        """Rows of a video that needs no more work: handled before, its clips still whole, its failure a lasting one, its file or address
        and what is `said` in it the same as then.
        """
        recorded = self.folder / f"{video['key']}.json"
        for rows, noted in ((_recorded(recorded), recorded), (self._kept.get(video["key"]), self._index)):
            now = (video["id"], video["url"] or video["path"], video["said"])
            if rows and (rows[0]["id"], rows[0]["url"], rows[0].get("said")) == now:
                lasting = not any(row["status"] in PASSING for row in rows)
                if lasting and not _changed(video["path"], rows, noted) and all(map(self._whole, rows)):
                    return rows
        return None

    def record(self, key: str, rows: list[Row]) -> None:
        """Remember a video as finished. Its clips are in the folder already, named in the rows' `file`."""
        write_json(self.folder / f"{key}.json", rows)

    def clip(self, row: Row) -> Path | bytes:
        """The clip of a finished row."""
        return self.folder / row["file"] if "file" in row else read_member(self._tar, row["offset"], row["size"])

    def unchanged(self, videos: list[Row], finished: dict[str, list[Row]]) -> bool:
        """Whether the shard as it was completed before holds exactly these videos, with these captions and finished rows."""
        captions = {key: rows[0]["caption"] for key, rows in self._kept.items()}
        same = bool(captions) and captions == {video["key"]: video["caption"] for video in videos}
        return same and all(finished[key] is rows for key, rows in self._kept.items())

    def restore(self, tar: Path, index: Path) -> None:
        """Give the shard as it was completed before its names again; it is as new as if it had been made now."""
        for kept, output in ((self._tar, tar), (self._index, index)):
            os.utime(kept)
            _link(kept, output)

    def keep(self, tar: Path, index: Path) -> None:
        """The shard is complete."""
        keep(self.folder, {tar: self._tar, index: self._index})

    def _read_kept(self) -> dict[str, list[Row]]:
        """Rows of the shard as it was completed before, by key of the video."""
        kept: dict[str, list[Row]] = {}
        if self._tar.exists():
            with contextlib.suppress(UserError):
                index = read_index(self._index)
                said = said_in(index)
                for row in index.to_pylist():
                    key = row["key"].partition("_")[0]
                    kept.setdefault(key, []).append({**row, "said": said.get(key)})
        return kept

    def _whole(self, row: Row) -> bool:
        if row["status"] != "ok":
            return True
        try:
            clip = self.clip(row)
            found = sha256_file(clip) if isinstance(clip, Path) else hashlib.sha256(clip).hexdigest()
        except (FileNotFoundError, EOFError):
            return False
        return bool(found == row["sha256"])


def _link(file: Path, name: Path) -> None:
    """Give `file` the second name `name`, whatever had it before."""
    with atomic(name) as temporary:
        os.link(file, temporary)


def _recorded(path: Path) -> list[Row]:
    try:
        rows: list[Row] = read_json(path)
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return rows


def _changed(path: str | None, rows: list[Row], noted: Path) -> bool:
    """Whether a local file is another one by now, or is there at last. One that is gone since has been handled well enough."""
    if path is None:
        return False
    member = MEMBER.fullmatch(path)
    file = Path(member["tar"] if member else path)
    return file.exists() and (rows[0]["status"] == "removed" or file.stat().st_mtime > noted.stat().st_mtime)
