"""Shards of a dataset and its card: what is kept, what is lost and why, the same bytes every time."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tvts.config import Dataset, UserError
from tvts.corpus.dataset import build_card, build_shard, split_of
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
        "attempts": 1,
        "seconds": 2.5,
    }
    return row | more


def transcript_row(clip: dict, words: list[dict], **more) -> dict:
    row = {
        "key": clip["key"],
        "id": clip["id"],
        "language": "en",
        "engine": "whisper",
        "model": "m",
        "words": words,
        "flags": [],
    }
    return row | {"status": "ok", "message": None, "duration": clip["duration"], "seconds": 5.0} | more


class Corpus:
    """One shard of eight videos: nine good and bad clips, two videos without any."""

    def __init__(self, folder: Path, seconds: float = 5.0):
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
        for row in self.transcripts:
            row["seconds"] = seconds
        folder.mkdir(exist_ok=True)
        self.index, self.heard, self.plan = folder / "00007.parquet", folder / "heard.parquet", folder / "plan.parquet"
        pq.write_table(pa.Table.from_pylist([*self.clips, *failed], INDEX_SCHEMA), self.index)
        self.write_transcripts(self.transcripts)
        plan = [{"id": f"v{i}", "url": f"u{i}", "shard": 7, "key": str(i)} for i in range(9)]
        pq.write_table(pa.Table.from_pylist(plan, PLAN_SCHEMA), self.plan)

    def write_transcripts(self, rows: list[dict]) -> None:
        pq.write_table(pa.Table.from_pylist(rows, TRANSCRIPT_SCHEMA), self.heard)

    def build(self, settings: Dataset = SETTINGS) -> tuple[Path, Path]:
        shard, card = self.folder / "out" / "00007.parquet", self.folder / "out" / "card.json"
        build_shard(self.index, self.heard, settings, shard)
        build_card([shard], [self.index], [self.heard], self.plan, settings, card)
        return shard, card


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return Corpus(tmp_path)


def test_only_clips_with_usable_windows_become_rows_in_index_order(corpus):
    rows = pq.read_table(corpus.build()[0]).to_pylist()
    assert [row["key"] for row in rows] == [clip["key"] for clip in corpus.clips[:3]]
    assert {row["shard"] for row in rows} == {7}
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
    windows = sum(len(row["windows"]) for row in pq.read_table(corpus.folder / "out" / "00007.parquet").to_pylist())
    assert card["funnel"][-1] == {"stage": "windows", "count": windows, "unit": "windows"}
    assert card["statuses"] == {"ok": 8, "removed": 1, "no_audio": 1}
    assert card["transcripts"] == {"ok": 7, "no_speech": 1}
    assert card["rules"] == {"overlapping": 1, "repeats": 1, "sparse": 1, "unlikely": 1, "no_window": 1}
    assert card["languages"] == {"en": 7}
    assert card["hours"] == {"clips": round(8 * 25 / 3600, 4), "usable": round(3 * 25 / 3600, 4)}
    assert card["words"] == 60 + 60 + 61
    assert card["real_time_factor"] == {"whisper": 0.2}
    assert card["duplicate_clips"] == 0
    assert sum(card["clips"].values()) == 3
    assert sum(card["videos"].values()) == 2
    assert card["settings"]["segments"] == 4


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    first, second = (Corpus(tmp_path / name).build() for name in ("a", "b"))
    assert first[0].read_bytes() == second[0].read_bytes()
    assert first[1].read_bytes() == second[1].read_bytes()


def test_time_spent_changes_neither_the_shard_nor_the_hash_of_inputs(tmp_path):
    quick, slow = Corpus(tmp_path / "a").build(), Corpus(tmp_path / "b", seconds=50.0).build()
    assert quick[0].read_bytes() == slow[0].read_bytes()
    assert json.loads(quick[1].read_text())["inputs_sha256"] == json.loads(slow[1].read_text())["inputs_sha256"]


def test_a_word_or_a_setting_changes_the_hash_of_inputs(corpus):
    before = json.loads(corpus.build()[1].read_text())["inputs_sha256"]
    other = json.loads(corpus.build(SETTINGS.model_copy(update={"seed": 4}))[1].read_text())["inputs_sha256"]
    corpus.transcripts[0]["words"][5]["word"] = "changed"
    corpus.write_transcripts(corpus.transcripts)
    assert len({before, other, json.loads(corpus.build()[1].read_text())["inputs_sha256"]}) == 3


def test_facts_of_several_shards_are_summed_and_duplicates_found_across_them(corpus, tmp_path):
    corpus.build()
    again = tmp_path / "00008.parquet"
    again.write_bytes(corpus.index.read_bytes())
    shards = [corpus.folder / "out" / "00007.parquet", corpus.folder / "out" / "00008.parquet"]
    build_shard(again, corpus.heard, SETTINGS, shards[1])
    card = corpus.folder / "both.json"
    build_card(shards, [corpus.index, again], [corpus.heard] * 2, corpus.plan, SETTINGS, card)
    both = json.loads(card.read_text())
    assert both["statuses"] == {"ok": 16, "removed": 2, "no_audio": 2}
    assert both["duplicate_clips"] == 8
    assert both["words"] == 2 * 181


def test_captions_need_no_transcripts(tmp_path):
    clips = [
        index_row("a", caption=" A dog runs. "),
        index_row("b", caption=" "),
        index_row("c"),
        index_row("d", status="removed"),
    ]
    index, plan = tmp_path / "3.parquet", tmp_path / "plan.parquet"
    pq.write_table(pa.Table.from_pylist(clips, INDEX_SCHEMA), index)
    pq.write_table(pa.Table.from_pylist([{"id": "a", "shard": 3, "key": "1"}], PLAN_SCHEMA), plan)
    settings = Dataset(corpus="c", text="caption", validation_share=1.0)
    build_shard(index, None, settings, tmp_path / "out.parquet")
    build_card([tmp_path / "out.parquet"], [index], [], plan, settings, tmp_path / "card.json")
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (row["caption"], row["words"], row["windows"], row["fixed"], row["split"]) == (
        "A dog runs.",
        [],
        [],
        [],
        "validation",
    )
    card = json.loads((tmp_path / "card.json").read_text())
    assert [stage["stage"] for stage in card["funnel"]] == ["urls", "downloaded", "clips", "captioned", "usable"]
    assert [stage["count"] for stage in card["funnel"]] == [1, 3, 3, 1, 1]
    assert card["rules"] == {"no_caption": 2}
    assert card["real_time_factor"] == {}


def test_a_shard_without_any_ok_clip_is_an_empty_table(tmp_path):
    index, heard, plan = tmp_path / "0.parquet", tmp_path / "heard.parquet", tmp_path / "plan.parquet"
    pq.write_table(pa.Table.from_pylist([index_row("gone", status="private")], INDEX_SCHEMA), index)
    pq.write_table(TRANSCRIPT_SCHEMA.empty_table(), heard)
    pq.write_table(PLAN_SCHEMA.empty_table(), plan)
    build_shard(index, heard, SETTINGS, tmp_path / "out.parquet")
    build_card([tmp_path / "out.parquet"], [index], [heard], plan, SETTINGS, tmp_path / "card.json")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0
    assert json.loads((tmp_path / "card.json").read_text())["statuses"] == {"private": 1}


def test_transcripts_of_other_clips_are_refused_in_one_line(corpus):
    corpus.write_transcripts(corpus.transcripts[1:])
    with pytest.raises(UserError, match=r"00007\.parquet: its transcripts belong to other clips"):
        corpus.build()


def test_a_dataset_of_transcripts_refuses_a_corpus_without(corpus):
    with pytest.raises(UserError, match="text: caption"):
        build_shard(corpus.index, None, SETTINGS, corpus.folder / "out.parquet")
