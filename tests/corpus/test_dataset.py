"""Shards of a dataset and its card: what is kept, what is lost and why, the same bytes every time."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tvts.config import Dataset, UserError
from tvts.corpus.dataset import build_card, build_cost, build_shard, split_of
from tvts.corpus.plan import FACTS
from tvts.corpus.shards import INDEX_SCHEMA, PLAN_SCHEMA
from tvts.corpus.transcripts import TRANSCRIPT_SCHEMA, word
from tvts.corpus.windows import segment_transcripts, usable_windows

SETTINGS = Dataset(corpus="c", validation_share=0.5, validation_windows=2, seed=3)
DURATION = 25.0


def speech(count: int = 60, step: float = 0.4) -> list[dict]:
    return [word(f"w{i}", i * step + 0.05, i * step + 0.35, 0.9) for i in range(count)]


def index_row(id: str, span: int = 0, status: str = "ok", **more) -> dict:
    ok = status == "ok"
    row = {
        "id": id,
        "key": f"{sum(map(ord, id)):06d}_{span:05d}",
        "span": span,
        "status": status,
        "message": None if ok else "gone",
        "caption": None,
        "start": 30.0 * span if ok else None,
        "duration": DURATION if ok else None,
        "offset": 512 if ok else None,
        "size": 1000 if ok else None,
        "fps": 15.0 if ok else None,
        "frames": 375 if ok else None,
        "width": 320 if ok else None,
        "height": 256 if ok else None,
        "keyframes": list(range(0, 375, 16)) if ok else None,
        "sha256": hashlib.sha256(f"{id} {span}".encode()).hexdigest() if ok else None,
        "audio": True if ok else None,
        "frames_hash": hashlib.sha256(f"{id} frames".encode()).hexdigest()[:16] if ok else None,
        "audio_hash": hashlib.sha256(f"{id} audio".encode()).hexdigest()[:16] if ok else None,
    }
    return row | more


def transcript_row(clip: dict, words: list[dict], **more) -> dict:
    row = {
        "key": clip["key"],
        "id": clip["id"],
        "sha256": clip["sha256"],
        "language": "en",
        "engine": "whisper",
        "model": "m",
        "words": words,
        "flags": [],
    }
    return row | {"status": "ok", "message": None, "duration": clip["duration"]} | more


def write_plan(path: Path, ids: list[str], shards: int, **facts: Any) -> Path:
    about = {"listed": len(ids), "duplicates": 0, "invalid": {}, "shards": shards} | facts
    rows = [{"id": id, "shard": 0, "key": str(at)} for at, id in enumerate(ids)]
    schema = PLAN_SCHEMA.with_metadata({FACTS: json.dumps(about)})
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


class Corpus:
    """One shard of eight videos: nine good and bad clips, two videos without any."""

    def __init__(self, folder: Path):
        self.folder = folder
        videos = {id: index_row(id) for id in ("good1", "good2", "silent", "looping", "sparse", "doubted", "brief")}
        second = index_row("good1", span=1)
        failed = [index_row("gone", status="removed"), index_row("mute", status="no_audio")]
        self.clips = [videos["good1"], second, *list(videos.values())[1:]]
        brief = [entry for entry in speech() if entry["start"] < 8]
        self.transcripts = [
            transcript_row(videos["good1"], speech(), flags=["overlapping"]),
            transcript_row(second, speech()),
            transcript_row(videos["good2"], [*speech(), word("ooh", 24.1, 24.9)]),
            transcript_row(videos["silent"], [], status="no_speech"),
            transcript_row(videos["looping"], [word("thanks", i * 0.4, i * 0.4 + 0.3) for i in range(60)]),
            transcript_row(videos["sparse"], speech(3)),
            transcript_row(videos["doubted"], speech(), flags=["unlikely"]),
            transcript_row(videos["brief"], brief),
        ]
        for name in ("clips", "transcripts"):
            (folder / name).mkdir(parents=True)
        self.index, self.heard = folder / "clips" / "00000.parquet", folder / "transcripts" / "00000.parquet"
        pq.write_table(pa.Table.from_pylist([*self.clips, *failed], INDEX_SCHEMA), self.index)
        self.write_transcripts(self.transcripts)
        invalid = {"no url": 2}
        self.plan = write_plan(folder / "plan.parquet", [f"v{i}" for i in range(9)], 1, listed=12, invalid=invalid)

    def write_transcripts(self, rows: list[dict]) -> None:
        pq.write_table(pa.Table.from_pylist(rows, TRANSCRIPT_SCHEMA), self.heard)

    def build(self, settings: Dataset = SETTINGS) -> tuple[Path, Path]:
        card = build(self.plan, self.index.parent, self.heard.parent, settings, self.folder / "out")
        return card.with_name("00000.parquet"), card


def build(plan: Path, clips: Path, transcripts: Path | None, settings: Dataset, folder: Path) -> Path:
    """What the rules do: every shard, then the card, whose path is returned."""
    for index in sorted(clips.glob("*.parquet")):
        build_shard(index, transcripts and transcripts / index.name, settings, folder / index.name)
    build_card(plan, clips, folder, settings, folder / "card.json")
    build_cost(plan, clips, transcripts, folder / "cost.json")
    return folder / "card.json"


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return Corpus(tmp_path)


def test_only_clips_with_usable_windows_become_rows_in_index_order(corpus):
    rows = pq.read_table(corpus.build()[0]).to_pylist()
    assert [row["key"] for row in rows] == [clip["key"] for clip in corpus.clips[:3]]
    assert {row["shard"] for row in rows} == {0}
    first = rows[0]
    assert (first["offset"], first["size"], first["fps"], first["frames"]) == (512, 1000, 15.0, 375)
    assert first["keyframes"] == list(range(0, 375, 16))


def test_stored_windows_are_the_usable_ones_and_their_segments_are_spoken_in(corpus):
    for row in pq.read_table(corpus.build()[0]).to_pylist():
        windows = [(window["start"], window["length"]) for window in row["windows"]]
        assert windows == usable_windows(row["words"], row["duration"], SETTINGS)
        for window in windows:
            assert all(
                len(text.split()) >= SETTINGS.min_words for text in segment_transcripts(row["words"], *window, SETTINGS)
            )


def test_validation_clips_alone_have_fixed_windows_with_a_stored_shuffling(corpus):
    rows = pq.read_table(corpus.build()[0]).to_pylist()
    assert {row["split"] for row in rows} == {"train", "validation"}
    for row in rows:
        assert row["split"] == split_of(row["id"], 0.5)
        assert len(row["fixed"]) == (2 if row["split"] == "validation" else 0)
        for window in row["fixed"]:
            assert {"start": window["start"], "length": window["length"]} in row["windows"]
            assert sorted(window["order"]) == [0, 1, 2, 3]


def test_the_split_keeps_its_share_and_grows_with_it():
    ids = [f"id{i}" for i in range(5000)]
    small = {id for id in ids if split_of(id, 0.1) == "validation"}
    large = {id for id in ids if split_of(id, 0.2) == "validation"}
    assert 430 < len(small) < 570
    assert small < large


def test_the_card_counts_every_loss(corpus):
    card = json.loads(corpus.build()[1].read_text())
    assert [(stage["stage"], stage["count"], stage["unit"]) for stage in card["funnel"][:-1]] == [
        ("urls", 9, "videos"),
        ("downloaded", 7, "videos"),
        ("clips", 8, "clips"),
        ("transcribed", 7, "clips"),
        ("clean", 4, "clips"),
        ("usable", 3, "clips"),
    ]
    windows = sum(len(row["windows"]) for row in pq.read_table(corpus.folder / "out" / "00000.parquet").to_pylist())
    assert card["funnel"][-1] == {"stage": "windows", "count": windows, "unit": "windows"}
    assert card["statuses"] == {"ok": 8, "removed": 1, "no_audio": 1}
    assert card["transcripts"] == {"ok": 7, "no_speech": 1}
    assert card["rules"] == {"overlapping": 1, "repeats": 1, "sparse": 1, "unlikely": 1, "no_window": 1}
    assert card["languages"] == {"en": 7}
    assert card["hours"] == {"clips": round(8 * 25 / 3600, 4), "usable": round(3 * 25 / 3600, 4)}
    assert card["words"] == 60 + 60 + 61
    assert card["list"] == {"listed": 12, "duplicates": 0, "invalid": {"no url": 2}}
    assert card["duplicates"] == {"videos_same_frames": 0, "videos_same_audio": 0, "clips": 0}
    assert sum(card["clips"].values()) == 3
    assert sum(card["videos"].values()) == 2
    assert card["settings"]["segments"] == 4


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    first, second = (Corpus(tmp_path / name).build() for name in ("a", "b"))
    assert first[0].read_bytes() == second[0].read_bytes()
    assert first[1].read_bytes() == second[1].read_bytes()


def test_cost_is_summed_up_beside_the_card_and_is_no_part_of_it(corpus):
    before = corpus.build()[1].read_bytes()
    cost = corpus.folder / "out" / "cost.json"
    assert json.loads(cost.read_text())["real_time_factor"] == {}
    stats = {"count": 9, "clips": 8, "attempts": 11, "seconds": 20.0}
    (corpus.index.parent / "00000_stats.json").write_text(json.dumps(stats))
    heard = {"engine": "whisper", "clips": 8, "audio_seconds": 200.0, "seconds": 40.0}
    (corpus.heard.parent / "00000_stats.json").write_text(json.dumps(heard))
    assert corpus.build()[1].read_bytes() == before
    assert json.loads(cost.read_text()) == {
        "download": stats | {"seconds_per_clip": 2.5},
        "real_time_factor": {"whisper": 0.2},
    }


def test_a_word_or_a_setting_changes_the_hash_of_inputs(corpus):
    before = json.loads(corpus.build()[1].read_text())["inputs_sha256"]
    other = json.loads(corpus.build(SETTINGS.model_copy(update={"seed": 4}))[1].read_text())["inputs_sha256"]
    corpus.transcripts[0]["words"][5]["word"] = "changed"
    corpus.write_transcripts(corpus.transcripts)
    assert len({before, other, json.loads(corpus.build()[1].read_text())["inputs_sha256"]}) == 3


def two_shards(corpus: Corpus) -> None:
    """A second shard that repeats the first."""
    for file in (corpus.index, corpus.heard):
        file.with_name("00001.parquet").write_bytes(file.read_bytes())
    write_plan(corpus.plan, [f"v{i}" for i in range(9)], 2)


def test_facts_of_several_shards_are_summed_and_duplicates_found_across_them(corpus):
    two_shards(corpus)
    both = json.loads(corpus.build()[1].read_text())
    assert both["statuses"] == {"ok": 16, "removed": 2, "no_audio": 2}
    assert both["duplicates"] == {"videos_same_frames": 7, "videos_same_audio": 7, "clips": 8}
    assert both["words"] == 2 * 181


def test_files_of_a_corpus_with_more_shards_do_not_count(corpus):
    _, card = corpus.build()
    whole = card.read_bytes()
    two_shards(corpus)
    corpus.build()
    write_plan(corpus.plan, [f"v{i}" for i in range(9)], 1, listed=12, invalid={"no url": 2})
    assert corpus.build()[1].read_bytes() == whole


def test_what_a_killed_job_was_writing_is_no_shard(corpus):
    _, card = corpus.build()
    whole = card.read_bytes()
    for folder in (card.parent, corpus.index.parent, corpus.heard.parent):
        half = folder / ".00001.parquet.abc"
        half.mkdir()
        (half / "00001.parquet").write_bytes(b"half")
    assert corpus.build()[1].read_bytes() == whole
    assert [path.name for path in card.parent.glob("*.parquet")] == ["00000.parquet"]


def test_captions_need_no_transcripts(tmp_path):
    clips = [
        index_row("a", caption=" A dog runs. "),
        index_row("b", caption=" "),
        index_row("c"),
        index_row("d", status="removed"),
    ]
    pq.write_table(pa.Table.from_pylist(clips, INDEX_SCHEMA), tmp_path / "00000.parquet")
    settings = Dataset(corpus="c", text="caption", validation_share=1.0)
    plan = write_plan(tmp_path / "plan.parquet", ["a"], 1)
    clips = tmp_path / "clips"
    clips.mkdir()
    (tmp_path / "00000.parquet").rename(clips / "00000.parquet")
    build(plan, clips, None, settings, tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert (row["caption"], row["words"], row["windows"], row["fixed"], row["split"]) == (
        "A dog runs.",
        [],
        [],
        [],
        "validation",
    )
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [stage["stage"] for stage in card["funnel"]] == ["urls", "downloaded", "clips", "captioned", "usable"]
    assert [stage["count"] for stage in card["funnel"]] == [1, 3, 3, 1, 1]
    assert card["rules"] == {"no_caption": 2}


def test_a_shard_without_any_ok_clip_is_an_empty_table(tmp_path):
    clips, heard = tmp_path / "clips", tmp_path / "transcripts"
    clips.mkdir()
    heard.mkdir()
    pq.write_table(pa.Table.from_pylist([index_row("gone", status="private")], INDEX_SCHEMA), clips / "00000.parquet")
    pq.write_table(TRANSCRIPT_SCHEMA.empty_table(), heard / "00000.parquet")
    card = build(write_plan(tmp_path / "plan.parquet", ["gone"], 1), clips, heard, SETTINGS, tmp_path / "out")
    assert pq.read_table(card.with_name("00000.parquet")).num_rows == 0
    assert json.loads(card.read_text())["statuses"] == {"private": 1}


def test_transcripts_of_other_clips_are_refused_in_one_line(corpus):
    corpus.write_transcripts(corpus.transcripts[1:])
    with pytest.raises(UserError, match=r"00000\.parquet: its transcripts belong to other clips"):
        corpus.build()


def test_transcripts_of_a_clip_that_was_cut_anew_are_refused(corpus):
    corpus.transcripts[0]["sha256"] = "of the clip before"
    corpus.write_transcripts(corpus.transcripts)
    with pytest.raises(UserError, match="transcribe this shard again"):
        corpus.build()


def test_a_missing_shard_is_told_in_one_line(corpus):
    write_plan(corpus.plan, ["a"], 2)
    with pytest.raises(UserError, match=r"00001\.parquet: no such"):
        corpus.build()


def test_a_dataset_of_transcripts_refuses_a_corpus_without(corpus):
    with pytest.raises(UserError, match="text: caption"):
        build_shard(corpus.index, None, SETTINGS, corpus.folder / "out.parquet")
