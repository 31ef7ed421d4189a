"""YouTube's caption tracks as yt-dlp writes them beside a video: `ID.LANGUAGE.json3`, else `ID.LANGUAGE.vtt`.

json3 has a time for every word of a recognised (ASR) track. The VTT of such a track shows each line up to three times, so only what is
new in a cue is read; nothing is removed for being a repeat, as speakers do repeat themselves. Written tracks have times per cue alone:
their words are spread over the cue and flagged `estimated_times`.
"""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvts.corpus.transcribe.engine import Piece, Reader, Transcript, spread
from tvts.corpus.transcripts import Word

_SOUND = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫]+|>>+")
_TAG = re.compile(r"<[^>]*>")
_TIME = r"(?:\d+:)?\d\d:\d\d[.,]\d{3}"
_CUE = re.compile(rf"^({_TIME})[ \t]+-->[ \t]+({_TIME})[^\n]*\n((?:[^\n]+(?:\n|$))*)", re.MULTILINE)
_INLINE = re.compile(rf"<({_TIME})>")
_SETTLED_SECONDS = 0.02


class Captions(Reader):
    """Reads `transcribe.annotations`: the recognised track of `transcribe.language` first, json3 before VTT."""

    def read(self, id: str) -> Transcript:
        for path, language in self._tracks(id):
            if path.is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                words, timed = parse_json3(text) if path.suffix == ".json3" else parse_vtt(text)
                return Transcript(words, language, [] if timed else ["estimated_times"])
        wanted = f"{id}.{self.language or '*'}.json3 or .vtt"
        return Transcript(status="no_captions", message=f"no {wanted} in {self.folder}")

    def _tracks(self, id: str) -> Iterator[tuple[Path, str | None]]:
        for suffix in (".json3", ".vtt"):
            if self.language is None:
                found = (
                    path
                    for path in self.folder.iterdir()
                    if path.suffix == suffix and path.stem.rpartition(".")[0] == id
                )
                for path in sorted(found, key=lambda path: (not path.stem.endswith("-orig"), path.name)):
                    yield path, path.stem.rpartition(".")[2].removesuffix("-orig")
            else:
                for name in (f"{id}.{self.language}-orig", f"{id}.{self.language}", id):
                    yield self.folder / f"{name}{suffix}", self.language


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
