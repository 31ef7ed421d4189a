"""A corpus of several hundred videos through the workflow, killed at random three times: the end is the same, byte for byte."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from tests.corpus.conftest import Site, reply, site  # noqa: F401
from tests.workflow.generated import serve, write_local, write_video
from tests.workflow.snake import ROOT, snakemake, start_snakemake

LOCAL, SERVED, SPOKEN = 260, 40, 6
SEED = int(os.environ.get("TVTS_KILL_SEED", "5"))
"""Of the moments at which the workflow is killed."""
FETCH = {
    "spans": {"per_video": 2, "seconds": 4.0}, "short_side": 32, "fps": 6.0, "attempts": 1, "allow_private_hosts": True,
}  # fmt: skip
WINDOWS = {"segments": 2, "segment_seconds": [1.0, 1.0], "gap_seconds": 0.5, "min_words": 1, "margin_seconds": 0.2}
CARDS = [f"results/datasets/{name}/card.json" for name in ("local", "served", "spoken")]
COSTS = ("_stats.json", "cost.json")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("killed")]


def settings(folder: Path) -> dict[str, Any]:
    """The corpora as an overlay of config.yaml."""

    def captions(name: str) -> dict[str, str]:
        return {"engine": "captions", "annotations": str(folder / name / "captions")}

    def corpus(name: str, source: str, shards: int, transcribe: dict[str, Any]) -> dict[str, Any]:
        listed = str(folder / name / "list.csv")
        root = str(folder / name) if source == "local" else None
        return {
            "source": source, "list": listed, "root": root, "shards": shards, "fetch": FETCH, "transcribe": transcribe,
        }  # fmt: skip

    small = {"validation_share": 0.2, "cleaning": {"max_words_per_minute": 1000.0}, **WINDOWS}
    return {
        "corpora": {
            "local": corpus("local", "local", 4, captions("local")),
            "served": corpus("served", "http", 2, captions("served")),
            "spoken": corpus("spoken", "local", 1, {"engine": "pocketsphinx", "options": {"maxhmmpf": 1500}}),
        },
        "datasets": {name: {"corpus": name, **small} for name in ("local", "served", "spoken")},
    }


def made(folder: Path) -> dict[str, bytes]:
    """What the workflow has made, without what it cost and what is hidden."""
    files = [path for kind in ("corpora", "datasets") for path in (folder / "results" / kind).rglob("*")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.is_file() and not path.name.endswith(COSTS) and not any(part[0] == "." for part in path.parts[-3:])
    }


def kill(process: subprocess.Popen[bytes], everything: bool) -> None:
    """SIGKILL the workflow: with all its jobs, as when a node is lost; or alone, so that its jobs live on."""
    children = psutil.Process(process.pid).children(recursive=True) if everything else []
    for victim in [psutil.Process(process.pid), *children]:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def statuses(folder: Path, corpus: str) -> dict[str, str]:
    rows = [
        row
        for path in sorted((folder / f"results/corpora/{corpus}/clips").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert all(row["message"] for row in rows if row["status"] != "ok")
    return {row["id"]: row["status"] for row in rows if row["span"] == 0}


def test_killed_three_times_the_end_is_the_same_byte_for_byte(tmp_path: Path, site: Site) -> None:  # noqa: F811
    sources = tmp_path / "sources"
    expected = {"local": write_local(sources / "local", LOCAL), "served": serve(site, sources / "served", SERVED)}
    demo = [
        sys.executable,
        str(ROOT / "demo/narrated.py"),
        "--videos",
        str(SPOKEN),
        "--output",
        str(sources / "spoken"),
    ]
    subprocess.run(demo, check=True, capture_output=True)
    (sources / "spoken/list.csv").write_text(
        "id,path\n" + "".join(f"{path.stem},videos/{path.name}\n" for path in (sources / "spoken/videos").glob("*.mp4"))
    )
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    began = time.monotonic()
    snakemake(whole, *CARDS, overlay=settings(sources))
    seconds = time.monotonic() - began

    draw = random.Random(SEED)
    for everything, after in ((True, None), (False, None), (True, "transcripts")):
        process = start_snakemake(part, *CARDS, "--rerun-incomplete", overlay=settings(sources))
        while after and not list(part.glob(f"results/corpora/*/{after}/*.parquet")):
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(draw.uniform(0.05, 0.2) * seconds)
        assert process.poll() is None, "the workflow has ended before it could be killed"
        kill(process, everything)
        assert not all((part / card).exists() for card in CARDS)
        snakemake(part, "--unlock", overlay=settings(sources))
    snakemake(part, *CARDS, "--rerun-incomplete", overlay=settings(sources))

    left, right = made(whole), made(part)
    assert left.keys() == right.keys()
    assert [name for name in left if left[name] != right[name]] == []
    for corpus, wanted in expected.items():
        assert statuses(part, corpus) == wanted
    assert set(statuses(part, "spoken").values()) == {"ok"}
    assert not list(tmp_path.glob("*.mp4"))

    card = json.loads((part / CARDS[0]).read_text())
    assert card["list"] == {"listed": LOCAL + 5, "duplicates": 1, "invalid": card["list"]["invalid"]}
    assert sum(card["list"]["invalid"].values()) == 4
    assert card["duplicates"]["videos_same_frames"] == sum(n % 40 == 39 for n in range(LOCAL))
    assert card["transcripts"]["no_captions"] > 10
    assert card["transcripts"]["internal"] >= 1
    assert card["funnel"][-1]["count"] > 300
    heard = json.loads((part / CARDS[2]).read_text())
    assert heard["transcripts"] == {"ok": heard["funnel"][2]["count"]}
    assert 0 < json.loads((part / CARDS[2]).with_name("cost.json").read_text())["real_time_factor"]["pocketsphinx"] < 10

    # what may have passed by now is tried again, and nothing else
    write_video(sources / "again.mp4", 1)
    site.replies["/down.mp4"] = reply((sources / "again.mp4").read_bytes())
    site.seen.clear()
    clips = part / "results/corpora/served/clips"
    subprocess.run([sys.executable, "-m", "tvts", "retry", str(clips)], check=True, capture_output=True)
    snakemake(part, *CARDS, overlay=settings(sources))
    assert set(site.seen) == {"/down.mp4", "/refused.mp4", "/short.mp4"}
    assert statuses(part, "served") == expected["served"] | {"down": "ok"}
    kept = {path: data for path, data in made(part).items() if "/served/" not in path}
    assert kept == {path: data for path, data in right.items() if "/served/" not in path}
