"""Each adapter on a miniature of each real annotation format, and what it says about wrong files."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvts.config import Benchmark, Experiment, UserError
from tvts.evaluate.benchmarks import adapters, load, survey

Make = Callable[..., Benchmark]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def texts(benchmark: Benchmark) -> list[tuple[str, str | None]]:
    return [(str(item.video.relative_to(benchmark.videos)), item.text) for item in load(benchmark).test]


def labels(benchmark: Benchmark, part: str = "test") -> list[tuple[str, int | None]]:
    return [(str(item.video.relative_to(benchmark.videos)), item.label) for item in getattr(load(benchmark), part)]


def test_every_benchmark_of_the_paper_has_an_adapter() -> None:
    assert {"msrvtt", "didemo", "lsmdc", "hmdb51", "ucf101", "k400", "ssv2_mc", "table"} == set(adapters())


# --- retrieval --------------------------------------------------------------------------------------------------------


def test_msrvtt_clip4clip(tmp_path: Path, bench: Make) -> None:
    write(
        tmp_path / "a.csv",
        'key,vid_key,video_id,sentence\nret0,msr9,video9,"a man, talking"\nret1,msr10,video10,"a ""red"" car"\n',
    )
    benchmark = bench("msrvtt", "a.csv", ["retrieval"], ["video9.mp4", "video10.mp4"], expected={"items": 2})
    assert texts(benchmark) == [("video10.mp4", 'a "red" car'), ("video9.mp4", "a man, talking")]


@pytest.mark.parametrize("index", ["pkl", "json"])
def test_msrvtt_frozen_in_time(tmp_path: Path, bench: Make, index: str) -> None:
    annotations = [{"image_id": id, "caption": f"{id} {word}", "id": 0} for id in ("video9", "video1") for word in "ab"]
    write(tmp_path / "m/annotation/MSR_VTT.json", json.dumps({"annotations": annotations}))
    lists = tmp_path / "m/high-quality/structured-symlinks"
    write(lists / "val_list_jsfusion.txt", "video9\nvideo1\n")
    chosen = {"video9": 1, "video1": 0}
    path = lists / f"jsfusion_val_caption_idx.{index}"
    path.write_bytes(pickle.dumps(chosen) if index == "pkl" else json.dumps(chosen).encode())
    benchmark = bench("msrvtt", "m", ["retrieval"], expected=None)
    assert texts(benchmark) == [("video1.mp4", "video1 a"), ("video9.mp4", "video9 b")]


def test_msrvtt_pickle_with_a_class_is_refused(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "m/MSR_VTT.json", json.dumps({"annotations": [{"image_id": "v", "caption": "c"}]}))
    write(tmp_path / "m/val_list_jsfusion.txt", "v\n")
    (tmp_path / "m/jsfusion_val_caption_idx.pkl").write_bytes(pickle.dumps({"v": Path("x")}))
    with pytest.raises(UserError, match=r"asks for pathlib.*MSRVTT_JSFUSION_test.csv"):
        load(bench("msrvtt", "m", ["retrieval"], expected=None))


def test_msrvtt_with_the_wrong_number_of_pairs_is_refused(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "a.csv", "video_id,sentence\nvideo9,one\n")
    with pytest.raises(UserError, match=r"expected 1000 items, found 1;"):
        load(bench("msrvtt", "a.csv", ["retrieval"]))


def test_msrvtt_with_several_captions_per_video_is_refused(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "a.csv", "video_id,sentence\nvideo9,one\nvideo9,two\n")
    with pytest.raises(UserError, match="1 test items repeat an id"):
        load(bench("msrvtt", "a.csv", ["retrieval"], expected=None))


@pytest.mark.parametrize("header", ["", "caption\tpath\n"])
def test_didemo_tvts(tmp_path: Path, bench: Make, header: str) -> None:
    write(tmp_path / "a.tsv", header + 'a dog runs. "it" stops.\tvideos/1@N00_2.mov\nnight falls\tvideos/3@N00_4.avi\n')
    benchmark = bench("didemo", "a.tsv", ["retrieval"], ["videos/1@N00_2.mov", "sub/3@N00_4.mp4"])
    assert texts(benchmark) == [
        ("videos/1@N00_2.mov", 'a dog runs. "it" stops.'),
        ("sub/3@N00_4.mp4", "night falls"),  # by name, in another folder and format
    ]


def test_didemo_localizing_moments(tmp_path: Path, bench: Make) -> None:
    rows = [("1@N00_2.mov", "a dog runs"), ("3@N00_4.avi", "night falls"), ("1@N00_2.mov", "it stops")]
    annotations = [
        {"annotation_id": i, "video": v, "description": d, "times": [[0, 0]]} for i, (v, d) in enumerate(rows)
    ]
    write(tmp_path / "d/test_data.json", json.dumps(annotations))
    benchmark = bench("didemo", "d", ["retrieval"])
    assert texts(benchmark) == [("1@N00_2.mov", "a dog runs it stops"), ("3@N00_4.avi", "night falls")]


CLIP = "0017_Pianist_00.23.28.872-00.23.34.843"
LAST = "1004_Juno_00.01.43.655-00.01.44.898"


@pytest.mark.parametrize("header", ["", "clip\ta\tb\tc\td\tsentence\n"])
def test_lsmdc(tmp_path: Path, bench: Make, header: str) -> None:
    rows = [f'{CLIP}\t0\t1\t2\t3\tSomeone says "no', f"{LAST}\t0\t1\t2\t3\tShe nods."]
    write(tmp_path / "a.csv", header + "\n".join(rows) + "\n")
    benchmark = bench("lsmdc", "a.csv", ["retrieval"], [f"0017_Pianist/{CLIP}.avi"], expected={"items": 2})
    assert texts(benchmark) == [
        (f"0017_Pianist/{CLIP}.avi", 'Someone says "no'),  # the stray quote merges nothing, the first row is kept
        (f"1004_Juno/{LAST}.avi", "She nods."),
    ]


# --- recognition ------------------------------------------------------------------------------------------------------


def test_hmdb51_tvts(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "h/label2id.json", json.dumps({"brushing hair": 1, "waving": 2}))
    write(tmp_path / "h/split_1_test_list.tsv", "path\tlabel\nwave/b.avi\t2\nbrush_hair/a.avi\t1\n")
    write(tmp_path / "h/split_1_train_list.tsv", "path\tlabel\nwave/c.avi\t2\n")
    benchmark = bench("hmdb51", "h", ["recognition", "linear_probe"], expected={"classes": 2})
    assert labels(benchmark) == [("wave/b.avi", 1), ("brush_hair/a.avi", 0)]
    assert labels(benchmark, "train") == [("wave/c.avi", 1)]
    assert load(benchmark).classes == ["brushing hair", "waving"]


def test_hmdb51_original_splits(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "h/wave_test_split1.txt", "b.avi 2 \nc.avi 1 \nunused.avi 0 \n")
    write(tmp_path / "h/brush_hair_test_split1.txt", "a.avi 2 \nd.avi 1 \n")
    write(tmp_path / "h/brush_hair_test_split2.txt", "a.avi 1 \nd.avi 2 \n")
    protocols = ["recognition", "linear_probe"]
    benchmark = bench("hmdb51", "h", protocols, ["brush_hair/a.avi", "wave/b.avi"], expected=None)
    assert labels(benchmark) == [("brush_hair/a.avi", 0), ("wave/b.avi", 1)]
    assert labels(benchmark, "train") == [("brush_hair/d.avi", 0), ("wave/c.avi", 1)]
    assert load(benchmark).classes == ["brush hair", "wave"]
    second = bench("hmdb51", "h", ["recognition"], expected=None, split=2)
    assert labels(second) == [("brush_hair/d.avi", 0)]


def test_ucf101_tvts(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "u/label2id.json", json.dumps({"yo yo": 1, "archery": 2}))
    write(tmp_path / "u/testlist01_new.tsv", "path\tlabel\nArchery/v_Archery_g01_c01.avi\t2\n")
    benchmark = bench("ucf101", "u", ["recognition"], expected={"classes": 2})
    assert labels(benchmark) == [("Archery/v_Archery_g01_c01.avi", 1)]


def test_ucf101_original_splits(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "u/classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n")
    write(tmp_path / "u/testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\nApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n")
    write(tmp_path / "u/trainlist01.txt", "YoYo/v_YoYo_g08_c01.avi 2\n")
    benchmark = bench("ucf101", "u", ["recognition", "linear_probe"], expected={"classes": 2})
    assert labels(benchmark) == [("YoYo/v_YoYo_g01_c01.avi", 1), ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", 0)]
    assert labels(benchmark, "train") == [("YoYo/v_YoYo_g08_c01.avi", 1)]
    assert load(benchmark).classes == ["apply eye makeup", "yo yo"]


def test_k400_tvts(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "k/label2id.json", json.dumps({"abseiling": 0, "zumba": 1}))
    write(
        tmp_path / "k/kinetics400_val_list_videos.tsv",
        "path\tlabel\nzumba/x_000001_000011.mkv\t1\nabseiling/y_1_2.mp4\t0\n",
    )
    write(tmp_path / "k/kinetics400_train_list_videos.tsv", "path\tlabel\nzumba/z_000001_000011.mp4\t1\n")
    found = ["videos_val/x_000001_000011.mp4", "videos_val/y_1_2.mp4", "train/train/z_000001_000011.mp4"]
    benchmark = bench("k400", "k", ["recognition", "linear_probe"], found, expected={"classes": 2})
    assert labels(benchmark) == [(found[0], 1), (found[1], 0)]
    assert labels(benchmark, "train") == [(found[2], 1)]


def test_k400_original_csv(tmp_path: Path, bench: Make) -> None:
    header = "label,youtube_id,time_start,time_end,split\n"
    write(tmp_path / "k/val.csv", f'{header}zumba,-x,1,11,validate\n"cooking, on fire",y,20,30,validate\n')
    write(tmp_path / "k/train.csv", f"{header}zumba,z,1,11,train\n")
    found = ["val/zumba/-x_000001_000011.mp4", "val/y_000020_000030.mp4", "train/z_000001_000011.mp4"]
    benchmark = bench("k400", "k", ["recognition", "linear_probe"], found, expected={"classes": 2})
    assert labels(benchmark) == [(found[0], 1), (found[1], 0)]
    assert labels(benchmark, "train") == [(found[2], 1)]
    assert load(benchmark).classes == ["cooking, on fire", "zumba"]


@pytest.mark.parametrize(
    ("adapter", "path", "group"),
    [
        ("ucf101", "Archery/v_Archery_g01_c02.avi", "v_Archery_g01"),
        ("ucf101", "HandstandPushups/v_HandStandPushups_g12_c03.avi", "v_HandStandPushups_g12"),
        ("hmdb51", "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "April_09"),
        ("hmdb51", "wave/20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi", "20060723sfjffbartsinger"),
    ],
)
def test_clips_of_one_source_share_a_group(tmp_path: Path, bench: Make, adapter: str, path: str, group: str) -> None:
    listed = {"ucf101": "{}list01_new.tsv", "hmdb51": "split_1_{}_list.tsv"}[adapter]
    write(tmp_path / "a/label2id.json", json.dumps({"a class": 1}))
    for split in ("test", "train"):
        write(tmp_path / "a" / listed.format(split), f"path\tlabel\n{path}\t1\n")
    found = load(bench(adapter, "a", ["recognition", "linear_probe"], expected=None))
    assert found.train[0].group == group


def test_labels_out_of_range_are_refused(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "h/label2id.json", json.dumps({"wave": 1}))
    write(tmp_path / "h/split_1_test_list.tsv", "path\tlabel\nwave/b.avi\t0\n")
    with pytest.raises(UserError, match=r"1 items have a label outside 0\.\.0; the first is 'wave/b.avi'"):
        load(bench("hmdb51", "h", ["recognition"], expected=None))


def test_ambiguous_class_order_is_refused(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "h/label2id.json", json.dumps({"wave": 2, "brush": 1}))
    write(tmp_path / "h/split_1_test_list.tsv", "path\tlabel\nwave/b.avi\t1\n")
    with pytest.raises(UserError, match="ids do not count up in file order"):
        load(bench("hmdb51", "h", ["recognition"], expected=None))


# --- multiple choice --------------------------------------------------------------------------------------------------


def test_ssv2_mc_tvts(tmp_path: Path, bench: Make) -> None:
    rows = [
        {"clip_name": "1.webm", "options": ["a", "b"], "answer": "1"},
        {"clip_name": "2.webm", "options": ["c", "a"], "answer": 0},
    ]
    write(tmp_path / "val.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    items = load(bench("ssv2_mc", "val.jsonl", ["multiple_choice"], ["1.webm"], expected={"options": 2})).test
    assert [(item.video.name, item.options, item.answer) for item in items] == [
        ("1.webm", ("a", "b"), 1),
        ("2.webm", ("c", "a"), 0),
    ]
    with pytest.raises(UserError, match="expected 174 options, found 2"):
        load(bench("ssv2_mc", "val.jsonl", ["multiple_choice"]))


def test_ssv2_mc_from_the_dataset_s_own_labels(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "s/labels.json", json.dumps({"Pushing something": "1", "Holding something": "0"}))
    row = {"id": "7", "template": "Pushing [something]", "label": "pushing a cup", "placeholders": ["a cup"]}
    write(tmp_path / "s/something-something-v2-validation.json", json.dumps([row]))
    (item,) = load(bench("ssv2_mc", "s", ["multiple_choice"], expected=None)).test
    assert (item.video.name, item.options, item.answer) == ("7.webm", ("Holding something", "Pushing something"), 1)


def test_answers_outside_the_options_are_refused(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "val.jsonl", json.dumps({"clip_name": "1.webm", "options": ["a", "b"], "answer": 2}))
    with pytest.raises(UserError, match="1 items have an answer outside its options"):
        load(bench("ssv2_mc", "val.jsonl", ["multiple_choice"], expected=None))


# --- your own ---------------------------------------------------------------------------------------------------------


def test_table(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "t/test.csv", "path,text,concepts,label\na.mp4,a red ball,seen,spin\nb.mp4,a cone,unseen,grow\n")
    write(tmp_path / "t/train.csv", "path,label,group\nc.mp4,grow,film\n")
    write(tmp_path / "t/classes.json", json.dumps({"spin": "a thing that spins", "grow": "a thing that grows"}))
    items = load(bench("table", "t", ["retrieval", "recognition", "linear_probe"]))
    assert [item.text for item in items.test] == ["a red ball", "a cone"]
    assert [item.label for item in items.test] == [0, 1]
    assert [dict(item.tags) for item in items.test] == [{"concepts": "seen"}, {"concepts": "unseen"}]
    assert [(item.label, item.group) for item in items.train] == [(1, "film")]
    assert (items.classes, items.prompts) == (["a thing that spins", "a thing that grows"], ("{}",))


def test_table_options_and_list_of_classes(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "t/test.csv", 'id,path,label,options,answer\nx,a.mp4,1,"[""up"", ""down""]",1\n')
    write(tmp_path / "t/classes.json", json.dumps(["up", "down"]))
    items = load(bench("table", "t", ["recognition", "multiple_choice"], prompts=["a {}", "{}!"]))
    (item,) = items.test
    assert (item.id, item.label, item.options, item.answer) == ("x", 1, ("up", "down"), 1)
    assert items.prompts == ("a {}", "{}!")


def test_table_given_as_a_file(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "t/retrieval.csv", "path,text\na.mp4,a cone\n")
    write(tmp_path / "t/test.csv", "path,label\nb.mp4,0\n")
    write(tmp_path / "t/classes.json", json.dumps(["up"]))
    assert texts(bench("table", "t/retrieval.csv", ["retrieval"])) == [("a.mp4", "a cone")]
    assert labels(bench("table", "t", ["recognition"])) == [("b.mp4", 0)]


def test_table_from_parquet(tmp_path: Path, bench: Make) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "t").mkdir()
    pq.write_table(pa.table({"path": ["a.mp4"], "text": ["a cone"], "hour": [3]}), tmp_path / "t/test.parquet")
    (item,) = load(bench("table", "t", ["retrieval"])).test
    assert (item.text, dict(item.tags)) == ("a cone", {"hour": "3"})


# --- what people are told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({}, {}, r"t: no such annotation file or folder"),
        ({"t/other.csv": ""}, {}, r"t: expected one of test\.csv, test\.parquet"),
        ({"t/test.csv": "video,text\na,b\n"}, {}, r"test\.csv: no column path; found video, text"),
        ({"t/test.csv": "path,text\na.mp4,\n"}, {}, "1 items have no text; the first is '0'"),
        ({"t/test.csv": "path,text\n"}, {}, "no test items"),
        ({"t/test.csv": "path,label\na.mp4,x\n"}, {}, "label 'x' is not in classes.json"),
        (
            {"t/test.csv": "path,text\na.mp4,b\n"},
            {"typo": 1},
            "'typo': unknown to adapter table; known: expected, prompts",
        ),
        ({"t/test.csv": "path,text\na.mp4,b\n"}, {"prompts": ["a"]}, r"templates with one \{\} each"),
        ({"t/test.csv": "path,text\na.mp4,b\n"}, {"expected": {"item": 1}}, "should map items, classes or options"),
    ],
)
def test_one_line_about_what_is_wrong(
    tmp_path: Path, bench: Make, files: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    with pytest.raises(UserError, match=message) as caught:
        load(bench("table", "t", ["retrieval"], **settings))
    assert "\n" not in str(caught.value)


def test_unknown_adapter_and_missing_videos(tmp_path: Path, bench: Make) -> None:
    with pytest.raises(UserError, match="'nope': unknown; known: didemo, hmdb51"):
        load(bench("nope", "t", ["retrieval"]))
    write(tmp_path / "t/test.csv", "path,text\na.mp4,b\n")
    benchmark = bench("table", "t", ["retrieval"]).model_copy(update={"videos": str(tmp_path / "absent")})
    with pytest.raises(UserError, match="absent: no such video folder"):
        load(benchmark)


def test_survey_tells_what_is_on_disk(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "t/test.csv", "path,text\na.mp4,b\nc.mp4,d\n")
    there = bench("table", "t", ["retrieval"], ["a.mp4"])
    rows = survey({"mine": there, "absent": bench("msrvtt", "no.csv", ["retrieval"])})
    assert [(row["benchmark"], row["state"], row["items"], row["videos"]) for row in rows] == [
        ("mine", "incomplete", 2, 1),
        ("absent", "missing", 0, 0),
    ]
    assert "no.csv: no such annotation" in rows[1]["message"]


@pytest.mark.parametrize("content", ['{"sentences": []}', '{"annotations": [{"caption": "x"}]}', "[1, 2]"])
def test_a_json_of_another_kind_is_told_not_crashed_on(tmp_path: Path, bench: Make, content: str) -> None:
    write(tmp_path / "m/MSR_VTT.json", content)
    with pytest.raises(UserError, match=r"not in a format this adapter knows \((Key|Type)Error: .*msrvtt.py"):
        load(bench("msrvtt", "m", ["retrieval"]))


def test_split_is_one_of_three(tmp_path: Path, bench: Make) -> None:
    write(tmp_path / "h/wave_test_split1.txt", "b.avi 2\n")
    with pytest.raises(UserError, match="split: got 4; should be 1, 2 or 3"):
        load(bench("hmdb51", "h", ["recognition"], split=4))


# --- what docs/benchmarks.md says -------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs/benchmarks.md"


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_the_documented_adapter_works(tmp_path: Path, bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from tvts.evaluate import benchmarks

    (code,) = examples("python")
    write(tmp_path / "adapters/youcook2.py", code)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path / "adapters")])
    write(tmp_path / "y.csv", "clip,sentence\nx_001,add the onions\n")
    assert texts(bench("youcook2", "y.csv", ["retrieval"], ["x_001.mp4"], expected=None)) == [
        ("x_001.mp4", "add the onions")
    ]
    with pytest.raises(UserError, match="expected 3350 items, found 1"):
        load(bench("youcook2", "y.csv", ["retrieval"]))


@pytest.mark.parametrize("example", examples("yaml"))
def test_the_documented_overlays_are_configs(tmp_path: Path, example: str) -> None:
    Experiment.load(DOCS.parents[1] / "config.yaml", write(tmp_path / "mine.yaml", example))
