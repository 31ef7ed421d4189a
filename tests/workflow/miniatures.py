"""The paper's seven benchmarks in miniature, each in the format its data are commonly distributed in, with real videos."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tests.conftest import write_video

WORDS = ("red", "green", "blue", "dark")
"""What a video shows, and its class."""
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "dark": (25, 25, 25)}


def make_benchmarks(data: Path) -> dict[str, dict[str, Any]]:
    """Write `data/{benchmark}` for all seven; returns what a config says beside the defaults of config.yaml."""
    pairs = [
        (f"{i}", word, f"a {word} screen {letter}")
        for i, (word, letter) in enumerate(zip(WORDS * 2, "abcdefgh", strict=True))
    ]
    retrieval = {"options": {"expected": {"items": len(pairs)}}}
    classes = {"options": {"expected": {"classes": len(WORDS)}}}

    rows = [f"ret{i},msr{i},video{i},{text}" for i, _, text in pairs]
    _write(data / "msrvtt/MSRVTT_JSFUSION_test.csv", ["key,vid_key,video_id,sentence", *rows])
    _videos(data / "msrvtt/videos/all", ((f"video{i}.mp4", word) for i, word, _ in pairs))

    _write(
        data / "didemo/DiDeMo_test.tsv", ["caption\tpath", *(f"{text}. it ends.\t{i}@N00.mp4" for i, _, text in pairs)]
    )
    _videos(data / "didemo/videos", ((f"{i}@N00.mp4", word) for i, word, _ in pairs))

    clips = [f"000{i}_Film_00.00.0{i}.000-00.00.0{i}.900" for i, _, _ in pairs]
    rows = [f"{clip}\t0\t1\t0\t1\tSomeone sees {text}." for clip, (_, _, text) in zip(clips, pairs, strict=True)]
    _write(data / "lsmdc/LSMDC16_challenge_1000_publictect.csv", rows)
    _videos(
        data / "lsmdc/videos",
        ((f"{clip[:9]}/{clip}.avi", word) for clip, (_, word, _) in zip(clips, pairs, strict=True)),
    )

    for word in WORDS:
        names = [f"film{i}_{word}_u_nm_np1_fr_goo_{i}.avi" for i in range(4)]
        _write(
            data / f"hmdb51/splits/{word}_test_split1.txt",
            [f"{name} {use} " for name, use in zip(names, "1121", strict=True)],
        )
        _videos(data / f"hmdb51/videos/{word}", ((name, word) for name in names))

    listed = [(word, f"{word.title()}/v_{word.title()}_g0{group}_c01.avi") for group in (1, 2, 3) for word in WORDS]
    _write(data / "ucf101/ucfTrainTestlist/classInd.txt", [f"{n} {word.title()}" for n, word in enumerate(WORDS, 1)])
    _write(data / "ucf101/ucfTrainTestlist/testlist01.txt", [path for _, path in listed[:4]])
    numbered = [f"{path} {WORDS.index(word) + 1}" for word, path in listed[4:]]
    _write(data / "ucf101/ucfTrainTestlist/trainlist01.txt", numbered)
    _videos(data / "ucf101/videos", ((path, word) for word, path in listed))

    header = "label,youtube_id,time_start,time_end,split"
    for split, ids in (("val", "x"), ("train", "yz")):
        rows = [f"{word},{id}{word},1,11,{split}" for word in WORDS for id in ids]
        _write(data / f"k400/annotations/{split}.csv", [header, *rows])
        names = ((f"{id}{word}_000001_000011.mp4", word) for word in WORDS for id in ids)
        _videos(data / f"k400/videos/{split}", names)

    lines = [
        json.dumps({"clip_name": f"{i}.webm", "options": [f"Showing {w}" for w in WORDS], "answer": WORDS.index(word)})
        for i, word, _ in pairs
    ]
    _write(data / "ssv2/mc/val.jsonl", lines)
    _videos(data / "ssv2/videos", ((f"{i}.webm", word) for i, word, _ in pairs))
    options = {"options": {"expected": {"options": len(WORDS)}}}
    return {name: retrieval for name in ("msrvtt", "didemo", "lsmdc")} | {
        name: classes for name in ("hmdb51", "ucf101", "k400")
    } | {"ssv2_mc": options}  # fmt: skip


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _videos(folder: Path, names: Iterable[tuple[str, str]]) -> None:
    """Six frames of flickering colour each."""
    for number, (name, word) in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 25, (6, 32, 40, 3))
        frames = np.clip(np.array(COLOURS[word]) + noise, 0, 255).astype(np.uint8)
        write_video(path.with_suffix(".mp4"), frames).rename(path)
