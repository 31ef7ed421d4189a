"""Caption tracks and YT-Temporal annotations: every word once, repeats by the speaker kept, times cut to the clip."""

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tests.corpus.test_transcribe import transcripts, write_shard

from tvts.config import Transcribe, UserError
from tvts.corpus.transcribe.captions import Captions, parse_json3, parse_vtt
from tvts.corpus.transcribe.engine import Clip
from tvts.corpus.transcribe.yt_temporal import YTTemporal, _costs, align, index_annotations, words
from tvts.corpus.transcripts import edit_distances


def event(start: int, duration: int, *segments: tuple[str, int | None], **more) -> dict:
    parts = [
        {"utf8": text} | ({} if offset is None else {"tOffsetMs": offset, "acAsrConf": 0}) for text, offset in segments
    ]
    return {"tStartMs": start, "dDurationMs": duration, "segs": parts} | more


# As YouTube writes a recognised track: a window set-up without segs, overlapping lines, lone newlines, a sound, a speaker's repeat.
RECOGNISED_JSON3 = json.dumps(
    {
        "wireMagic": "pb3",
        "events": [
            {"tStartMs": 0, "dDurationMs": 255000, "id": 1, "wpWinPosId": 1, "wsWinStyleId": 1},
            event(160, 4000, ("no", None), (" no", 240), (" no", 500), (" it's", 900)),
            event(1990, 2170, ("\n", None), aAppend=1),
            event(2000, 3720, ("very", None), (" very", 300), (" hot", 700), aAppend=0),
            event(4150, 10, ("\n", None), aAppend=1),
            event(9000, 2000, ("[Music]", None)),
            event(12000, 3000, ("ice cream", None), (" &gt;&gt; okay", 1000)),
        ],
    }
)

# The same speech as VTT: a line appears growing, settled and once more as the line above. "hot" is a lone word on a second line.
RECOGNISED_VTT = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:01.990 align:start position:0%
 \nno<00:00:00.400><c> no</c><00:00:00.660><c> no</c><00:00:01.060><c> it's</c>

00:00:01.990 --> 00:00:02.000 align:start position:0%
no no no it's
 

00:00:02.000 --> 00:00:02.700 align:start position:0%
no no no it's
very<00:00:02.300><c> very</c>

00:00:02.700 --> 00:00:02.710 align:start position:0%
very very
 

00:00:02.710 --> 00:00:04.150 align:start position:0%
very very
hot

00:00:04.150 --> 00:00:04.160 align:start position:0%
hot
 

00:00:09.000 --> 00:00:11.000 align:start position:0%
hot
[Music]
"""


def text(found: list[dict]) -> str:
    return " ".join(entry["word"] for entry in found)


def test_json3_gives_every_word_once_with_its_time():
    found, timed = parse_json3(RECOGNISED_JSON3)
    assert timed
    assert text(found) == "no no no it's very very hot ice cream okay"
    assert [entry["start"] for entry in found] == pytest.approx(
        [0.16, 0.4, 0.66, 1.06, 2.0, 2.3, 2.7, 12.0, 12.5, 13.0]
    )


def test_json3_words_end_where_the_next_begins_but_last_at_most_a_second():
    ends = [entry["end"] for entry in parse_json3(RECOGNISED_JSON3)[0]]
    assert ends == pytest.approx([0.4, 0.66, 1.06, 2.0, 2.3, 2.7, 3.7, 12.5, 13.0, 14.0])


def test_json3_confidence_becomes_probability_and_zero_means_unknown():
    track = {
        "events": [
            {
                "tStartMs": 0,
                "segs": [{"utf8": "sure", "acAsrConf": 204}, {"utf8": " what", "tOffsetMs": 9, "acAsrConf": 0}],
            }
        ]
    }
    assert [entry["probability"] for entry in parse_json3(json.dumps(track))[0]] == [0.8, 1.0]


def test_vtt_of_a_recognised_track_gives_every_word_once_with_its_time():
    found, timed = parse_vtt(RECOGNISED_VTT)
    assert timed
    assert text(found) == "no no no it's very very hot"
    assert [entry["start"] for entry in found] == pytest.approx([0.16, 0.4, 0.66, 1.06, 2.0, 2.3, 2.71])


def test_vtt_with_windows_line_ends_reads_the_same():
    assert parse_vtt(RECOGNISED_VTT.replace("\n", "\r\n")) == parse_vtt(RECOGNISED_VTT)


def test_written_tracks_spread_their_words_over_the_cue():
    vtt = "WEBVTT\n\n1\n01:00.000 --> 01:02,000 line:90%\n<v Ann>Mix <i>well</i> &amp;\nstir.</v>\n\n"
    vtt += "2\n01:03.000 --> 01:04.000\n(door slams)\n"
    json3 = json.dumps(
        {"events": [event(60000, 2000, ("Mix well &amp;\nstir.", None)), event(63000, 1000, ("(door slams)", None))]}
    )
    for found, timed in (parse_vtt(vtt), parse_json3(json3)):
        assert not timed
        assert [(entry["word"], entry["start"], entry["end"]) for entry in found] == [
            ("Mix", 60.0, 60.5),
            ("well", 60.5, 61.0),
            ("&", 61.0, 61.5),
            ("stir.", 61.5, 62.0),
        ]


def clip(id: str, start: float = 0.0, duration: float = 30.0) -> Clip:
    return Clip(
        key=f"{id}_{start}", id=id, start=start, duration=duration, audio=False, sha256="", tar=None, offset=0, size=0
    )


@pytest.fixture
def tracks(tmp_path) -> Captions:
    (tmp_path / "both.en.vtt").write_text(RECOGNISED_VTT)
    (tmp_path / "both.en-orig.json3").write_text(RECOGNISED_JSON3)
    (tmp_path / "both.en.json3").write_text('{"events": []}')
    (tmp_path / "-vtt.only.en.vtt").write_text(RECOGNISED_VTT)
    (tmp_path / "written.en.json3").write_text(json.dumps({"events": [event(0, 900, ("one two three", None))]}))
    (tmp_path / "broken.en.json3").write_text('{"events": [')
    return Captions(Transcribe(engine="captions", annotations=str(tmp_path)), 1)


def test_the_recognised_json3_track_comes_first_and_vtt_is_read_without_it(tracks):
    both, vtt = tracks.transcribe([clip("both"), clip("-vtt.only")])
    assert text(both.words) == "no no no it's very very hot ice cream okay"
    assert text(vtt.words) == "no no no it's very very hot"
    assert (both.status, both.language, both.flags) == ("ok", "en", [])


def test_words_are_cut_to_the_clip_and_count_from_its_start(tracks):
    first, second, far = tracks.transcribe([clip("both", 0.3, 2.2), clip("both", 2.5, 10.0), clip("both", 100.0)])
    assert text(first.words) == "no no it's very very"
    assert first.words[0]["start"] == pytest.approx(0.1)
    assert text(second.words) == "hot ice"
    assert second.words[0]["start"] == pytest.approx(0.2)
    assert (far.words, far.status) == ([], "ok")


def test_missing_broken_and_estimated_tracks_are_told_apart(tracks):
    missing, broken, written = tracks.transcribe([clip("nobody"), clip("broken"), clip("written")])
    assert (missing.status, broken.status, written.status) == ("no_captions", "internal", "ok")
    assert "nobody.en" in missing.message
    assert "JSONDecodeError" in broken.message
    assert written.flags == ["estimated_times"]


def test_any_language_is_taken_when_none_is_asked_for(tmp_path):
    (tmp_path / "a.de.json3").write_text('{"events": []}')
    (tmp_path / "a.fr-orig.json3").write_text(RECOGNISED_JSON3)
    (tmp_path / "a.b.es-orig.json3").write_text("another video's")
    (found,) = Captions(Transcribe(engine="captions", annotations=str(tmp_path), language=None), 1).transcribe(
        [clip("a")]
    )
    assert (found.language, len(found.words)) == ("fr", 10)


def test_any_language_is_found_for_ids_with_folders_and_by_one_listing_of_each(tmp_path, monkeypatch):
    (tmp_path / "tar0").mkdir()
    for name in ("k1.de", "k1.fr-orig", "k10.en", "k1.b.en", "k1-x.en"):
        (tmp_path / "tar0" / f"{name}.vtt").write_text(RECOGNISED_VTT)
    listed: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(str(folder)) or listdir(folder))
    reader = Captions(Transcribe(engine="captions", annotations=str(tmp_path), language=None), 1)
    ids = ("tar0/k1", "tar0/k10", "tar0/k1.b", "tar0/k2", "elsewhere/k1", "k1")
    found = list(reader.transcribe([clip(id) for id in ids]))
    assert [each.language for each in found] == ["fr", "en", "en", None, None, None]
    assert listed == [str(tmp_path / "tar0"), str(tmp_path)]


def test_half_a_character_is_no_end_of_a_job(tmp_path):
    """json3 may hold halves of characters (UTF-16 surrogates) that no table can hold."""
    said = [event(0, 900, ("half \ud83d", None), (" whole \ud83d", None), ("\ude00", None))]
    (tmp_path / "a.en.json3").write_text(json.dumps({"events": said}))
    shard = write_shard(tmp_path / "shard", [("a", b"", {})])
    (row,) = transcripts(shard, Transcribe(engine="captions", annotations=str(tmp_path)))
    assert text(row["words"]) == "half \ufffd whole \U0001f600"


@pytest.mark.parametrize("engine", [Captions, YTTemporal])
@pytest.mark.parametrize("folder", [None, "/no/such/folder"])
def test_a_missing_folder_stops_the_job_in_one_line(engine, folder):
    with pytest.raises(UserError, match=r"transcribe\.annotations"):
        engine(Transcribe(engine="captions", annotations=folder), 1)


# --- YT-Temporal-180M ------------------------------------------------------------------------------------------------

RAW = "so now where gonna chop the the onions real fine like this um and put em in the pan".split()  # noqa: SIM905
CLEAN = ["So now we're going to chop the onions real fine, like this,", "and put 'em in the pan!"]


def annotation(id: str = "abc", denoised: bool = True) -> dict:
    subtitles = [{"word": word, "time": round(0.5 * number, 3)} for number, word in enumerate(RAW)]
    subtitles.insert(5, {"word": "&nbsp;", "time": 2.2})
    blocks = [{"noisyasr": "", "cleanasr": part, "top_p": 0.6, "ctx_ppl": 1.0} for part in CLEAN]
    return {
        "subtitles": subtitles,
        "denoised": blocks if denoised else [],
        "info": {"id": id, "duration": 10, "tags": [{"id": "x"}]},
    }


def test_denoised_tokens_take_the_times_of_the_words_they_stand_for():
    found = words(annotation())
    starts = {entry["word"]: entry["start"] for entry in found}
    assert text(found) == " ".join(CLEAN)
    spoken_at = {
        "So": "so",
        "now": "now",
        "we're": "where",
        "fine,": "fine",
        "pan!": "pan",
        "'em": "em",
    }
    for token, raw in spoken_at.items():
        assert starts[token] == pytest.approx(0.5 * RAW.index(raw)), token
    assert 0.5 * RAW.index("gonna") <= starts["going"] < starts["to"] < starts["chop"] < 0.5 * RAW.index("the")


def test_each_clean_token_is_used_once_and_order_is_kept():
    positions = align(RAW, " ".join(CLEAN).split())
    assert len(positions) == len(" ".join(CLEAN).split())
    assert positions == sorted(positions)
    assert RAW.index("um") not in positions


def test_identical_text_aligns_word_for_word_also_when_the_speaker_repeats():
    raw = ("go " * 40 + "and then stop " + "now " * 30).split()
    assert align(raw, [token.capitalize() + "," for token in raw]) == list(range(len(raw)))


def test_alignment_stays_within_the_band_of_words():
    raw = [f"left{i}" for i in range(200)]
    clean = [*raw[100:], *raw[:100]]
    assert all(abs(position - column) <= 33 for column, position in enumerate(align(raw, clean)))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 300), (300, 7), (120, 100), (333, 411)])
def test_costs_are_those_of_all_pairs_within_the_band(rows, columns):
    letters = np.random.default_rng(0).integers(97, 101, (rows + columns, 3))
    every = ["".join(map(chr, word)) for word in letters]
    raw, clean = every[:rows], every[rows:]
    width = max(0.1 * max(rows, columns), 32)
    near = np.abs(np.arange(columns) - np.arange(rows)[:, None] * columns / rows) <= width
    naive = [edit_distances([ord(c) for c in one], [[ord(c) for c in two] for two in clean]) for one in raw]
    assert (_costs(raw, clean) == np.where(near, naive, 1_000_000)).all()


def test_costs_of_a_long_talk_fit_in_memory():
    """About 4 bytes per pair of words, and nothing else that grows with the pairs."""
    raw, clean = [f"w{n % 50}" for n in range(2000)], [f"w{n % 40}" for n in range(2000)]
    tracemalloc.start()
    _costs(raw, clean)
    assert tracemalloc.get_traced_memory()[1] < 6 * len(raw) * len(clean)
    tracemalloc.stop()


@pytest.mark.parametrize("raw", [["one"], ["one", "two", "three"]])
@pytest.mark.parametrize("clean", [["One"], ["One", "two.", "Three", "four"]])
def test_alignment_of_very_short_texts(raw, clean):
    positions = align(raw, clean)
    assert positions[0] == 0
    assert all(0 <= position < len(raw) for position in positions)


def test_a_video_that_was_not_denoised_keeps_its_recognised_words(tmp_path):
    (tmp_path / "abc.json").write_text(json.dumps(annotation(denoised=False)))
    (found,) = YTTemporal(Transcribe(engine="yt_temporal", annotations=str(tmp_path)), 1).transcribe([clip("abc")])
    assert text(found.words) == " ".join(RAW)
    assert found.flags == ["not_denoised"]


def read_by(annotations: Path) -> YTTemporal:
    return YTTemporal(Transcribe(engine="yt_temporal", annotations=str(annotations)), 1)


def test_shipped_lines_are_indexed_once_and_found_by_video(tmp_path, capsys):
    (tmp_path / "single.json").write_text(json.dumps(annotation("single")))
    with gzip.open(tmp_path / "000.jsonl.gz", "wt") as lines:
        lines.writelines(json.dumps(annotation(id)) + "\n" for id in ("other", "-zipped_", "x", "other"))
    (tmp_path / "001.jsonl").write_text(json.dumps(annotation("plain")) + '\n{"cut o\n[1]\n{"id": "no words"}\n')
    with pytest.raises(UserError, match=r"tvts annotations .* --output FILE\.sqlite"):
        read_by(tmp_path)
    index = tmp_path / "made" / "all.sqlite"
    index_annotations(tmp_path, index)
    assert "5 videos, 3 lines that are no annotations" in capsys.readouterr().out
    for path in tmp_path.glob("*.json*"):
        path.unlink()
    found = list(
        read_by(index).transcribe([clip("single"), clip("-zipped_", 4.9, 3.0), clip("plain"), clip("' OR 1 --")])
    )
    assert [transcript.status for transcript in found] == ["ok", "ok", "ok", "no_captions"]
    assert text(found[0].words) == text(found[2].words) == " ".join(CLEAN)
    assert text(found[1].words) == "like this, and put 'em"
    assert found[1].words[0]["start"] == pytest.approx(0.1)


def test_lines_that_cannot_be_used_are_left_out_and_counted(tmp_path, capsys):
    lines = [
        json.dumps(annotation("latin")).encode().replace(b'"so"', b'"s\xf6"'),
        json.dumps(annotation("half\ud83d")).encode(),
        json.dumps(annotation({"no": "id"})).encode(),
        b"[" * 200_000,
        json.dumps(annotation("good")).encode(),
    ]
    (tmp_path / "000.jsonl").write_bytes(b"\n".join(lines))
    index_annotations(tmp_path, tmp_path / "all.sqlite")
    assert "4 videos, 1 lines that are no annotations" in capsys.readouterr().out
    latin, good = read_by(tmp_path / "all.sqlite").transcribe([clip("latin"), clip("good")])
    assert text(latin.words) == text(good.words) == " ".join(CLEAN)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no gzip"])
def test_a_damaged_file_of_annotations_is_named(tmp_path, damage):
    whole = gzip.compress(b"".join(json.dumps(annotation(f"v{n}")).encode() + b"\n" for n in range(50)))
    bad = {"truncated": whole[:-300], "flipped": whole[:100] + b"\xff" * 200 + whole[300:], "no gzip": b"hello"}
    (tmp_path / "007.jsonl.gz").write_bytes(bad[damage])
    with pytest.raises(UserError, match=r"007\.jsonl\.gz: damaged \(.*\); get it again"):
        index_annotations(tmp_path, tmp_path / "all.sqlite")
    assert not (tmp_path / "all.sqlite").exists()


def test_a_folder_or_index_that_is_none_is_told(tmp_path):
    with pytest.raises(UserError, match="no annotations in its"):
        index_annotations(tmp_path, tmp_path / "all.sqlite")
    assert not (tmp_path / "all.sqlite").exists()
    with pytest.raises(UserError, match="no such file; `tvts annotations` writes it"):
        read_by(tmp_path / "all.sqlite")
