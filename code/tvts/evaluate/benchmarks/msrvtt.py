"""MSR-VTT 1k-A text-to-video retrieval: 1,000 videos with one chosen caption each.

Reads CLIP4Clip's `MSRVTT_JSFUSION_test.csv` (columns `video_id`, `sentence`), or the folder layout of Frozen in Time
that TVTS uses: `MSR_VTT.json`, `val_list_jsfusion.txt` and `jsfusion_val_caption_idx.pkl` (or `.json`), which picks
one caption per video.
"""

import pickle
from pathlib import Path
from typing import Any

from tvts.config import Benchmark, UserError
from tvts.evaluate.benchmarks.items import Item, Items, VideoFolder, existing, locate, read_json_file, read_records

EXPECTED = {"items": 1000}
LISTS = "high-quality/structured-symlinks/"


def read(benchmark: Benchmark) -> Items:
    """Items sorted by video id."""
    source = existing(benchmark.annotations)
    captions = _frozen_in_time(source) if source.is_dir() else _clip4clip(source)
    videos = VideoFolder(benchmark.videos)
    return Items([Item(id, videos.find(f"{id}.mp4"), text=text) for id, text in sorted(captions)])


def _clip4clip(path: Path) -> list[tuple[str, str]]:
    return [(row["video_id"], row["sentence"]) for row in read_records(path, "video_id", "sentence")]


def _frozen_in_time(folder: Path) -> list[tuple[str, str]]:
    captions: dict[str, list[str]] = {}
    for annotation in read_json_file(locate(folder, "MSR_VTT.json", "annotation/MSR_VTT.json"))["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    listed = locate(folder, "val_list_jsfusion.txt", f"{LISTS}val_list_jsfusion.txt")
    name = "jsfusion_val_caption_idx"
    chosen = _mapping(locate(folder, f"{name}.json", f"{name}.pkl", f"{LISTS}{name}.json", f"{LISTS}{name}.pkl"))
    ids = listed.read_text(encoding="utf-8").split()
    for id in ids:
        if id not in chosen or not 0 <= int(chosen[id]) < len(captions.get(id, [])):
            raise UserError(
                f"{listed}: video {id!r} has no caption chosen in {name}; use the three files of one release"
            )
    return [(id, captions[id][int(chosen[id])]) for id in ids]


def _mapping(path: Path) -> dict[str, Any]:
    """Video id -> caption index. The pickle is read without any class, so it can hold nothing but plain values."""
    if path.suffix == ".json":
        return dict(read_json_file(path))
    try:
        with open(path, "rb") as file:
            return dict(_PlainUnpickler(file).load())
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not a plain id -> index mapping ({error}); use MSRVTT_JSFUSION_test.csv instead"
        ) from None


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
