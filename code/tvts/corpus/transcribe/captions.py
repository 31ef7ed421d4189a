"""YouTube's caption tracks as yt-dlp writes them beside a video: `ID.LANGUAGE.json3`, else `ID.LANGUAGE.vtt`.

json3 has a time for every word of a recognised (ASR) track. The VTT of such a track shows each line up to three times, so only what is
new in a cue is read; nothing is removed for being a repeat, as speakers do repeat themselves. Written tracks have times per cue alone:
their words are spread over the cue and flagged `estimated_times`.
"""

import html
import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tvts.config import Transcribe
from tvts.corpus.transcribe.engine import Piece, Reader, Transcript, spread
from tvts.corpus.transcripts import Word
from tvts.files import storable

_SOUND = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫]+|>>+")
_TAG = re.compile(r"<[^>]*>")
_TIME = r"(?:\d+:)?\d\d:\d\d[.,]\d{3}"
_CUE = re.compile(rf"^({_TIME})[ \t]+-->[ \t]+({_TIME})[^\n]*\n((?:[^\n]+(?:\n|$))*)", re.MULTILINE)
_INLINE = re.compile(rf"<({_TIME})>")
_SETTLED_SECONDS = 0.02


class Captions(Reader):
    """Reads `transcribe.annotations`: the recognised track of `transcribe.language` first, json3 before VTT."""

    def __init__(self, settings: Transcribe, threads: int) -> None:
        super().__init__(settings, threads)
        self._names = cache(_sorted_names)

    def read(self, id: str) -> Transcript:
        track = self._track(id)
        if track is None:
            wanted = f"{id}.{self.language or '*'}.json3 or .vtt"
            return Transcript(status="no_captions", message=f"no {wanted} in {self.folder}")
        path, language = track
        text = path.read_text(encoding="utf-8", errors="replace")
        words, timed = parse_json3(text) if path.suffix == ".json3" else parse_vtt(text)
        return Transcript(words, language, [] if timed else ["estimated_times"])

    def source(self, id: str) -> bytes:
        track = self._track(id)
        return track[0].read_bytes() if track else b""

    def _track(self, id: str) -> tuple[Path, str | None] | None:
        """The file to read and its language."""
        return next((found for found in self._tracks(id) if found[0].is_file()), None)

    def _tracks(self, id: str) -> Iterator[tuple[Path, str | None]]:
        any_language = self._in_any_language(id) if self.language is None else []
        for suffix in (".json3", ".vtt"):
            for path in any_language:
                if path.suffix == suffix:
                    yield path, storable(path.stem.rpartition(".")[2].removesuffix("-orig"))
            if self.language is not None:
                for name in (f"{id}.{self.language}-orig", f"{id}.{self.language}", id):
                    yield self.folder / f"{name}{suffix}", self.language

    def _in_any_language(self, id: str) -> list[Path]:
        """Files named ID.LANGUAGE.SUFFIX, original tracks first. Each folder is listed once: there may be millions of files in it."""
        folder, name = (self.folder / id).parent, Path(id).name
        names = self._names(folder)
        begin, end = (
            bisect_left(names, f"{name}."),
            bisect_left(names, f"{name}/"),
        )  # `/` follows `.`, and is in no name
        paths = [folder / found for found in names[begin:end] if Path(found).stem.rpartition(".")[0] == name]
        return sorted(paths, key=lambda path: (not path.stem.endswith("-orig"), path.name))


def _sorted_names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def parse_json3(text: str) -> tuple[list[Word], bool]:
    """Words of a json3 track, seconds from the video's start, and whether their times are its own (not spread over a cue)."""
    events = [event for event in json.loads(text)["events"] if event.get("segs") and not event.get("aAppend")]
    timed = any("tOffsetMs" in segment for event in events for segment in event["segs"])
    if not timed:
        return spread([_written(event) for event in events]), False
    pieces = [_recognised(event, segment) for event in events for segment in event["segs"]]
    return spread([piece for piece in pieces if piece.text.strip()]), True


def _recognised(event: dict[str, Any], segment: dict[str, Any]) -> Piece:
    start = (event["tStartMs"] + segment.get("tOffsetMs", 0)) / 1000
    return Piece(_heard(segment["utf8"]), start, None, segment.get("acAsrConf", 0) / 255 or 1.0)


def _written(event: dict[str, Any]) -> Piece:
    start = event["tStartMs"] / 1000
    text = _heard("".join(segment["utf8"] for segment in event["segs"]))
    return Piece(text, start, start + event.get("dDurationMs", 0) / 1000)


def parse_vtt(text: str) -> tuple[list[Word], bool]:
    """Words of a WebVTT track, seconds from the video's start, and whether their times are its own (not spread over a cue)."""
    cues = [
        (_seconds(start), _seconds(end), body.split("\n"))
        for start, end, body in _CUE.findall(text.replace("\r\n", "\n"))
    ]
    if not _INLINE.search(text):
        return spread([Piece(_heard(" ".join(lines)), start, end) for start, end, lines in cues]), False
    pieces = [piece for start, end, lines in cues for piece in _new_pieces(start, end, lines)]
    return spread([piece for piece in pieces if piece.text.strip()]), True


def _new_pieces(start: float, end: float, lines: list[str]) -> Iterator[Piece]:
    """What a cue of a recognised track says for the first time: its line with inline times, or a lone word on its second line."""
    line = lines[1] if len(lines) > 1 else ""
    timed = next((line for line in lines if _INLINE.search(line)), None)
    if timed is not None:
        first, *rest = _INLINE.split(timed)
        yield Piece(_heard(first), start)
        for time, text in zip(rest[::2], rest[1::2], strict=True):
            yield Piece(_heard(text), _seconds(time))
    elif end - start > _SETTLED_SECONDS and len(line.split()) == 1:
        yield Piece(_heard(line), start)


def _heard(text: str) -> str:
    """`text` without markup, entities and descriptions of sounds."""
    return _SOUND.sub(" ", html.unescape(_TAG.sub("", text)))


def _seconds(time: str) -> float:
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return 3600 * int(hours[0] if hours else 0) + 60 * int(minutes) + float(seconds)
