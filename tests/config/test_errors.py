"""Every mistake in a config is one line: the key's path, what was given, what is allowed."""

from pathlib import Path

import pytest

from tvts.config import Experiment, UserError, deep_merge, read_yaml

PAPER = read_yaml([Path(__file__).parents[2] / "config.yaml"])


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"corporas": {}}, "corporas: unknown key; did you mean 'corpora'?"),
        (
            {"corpora": {"webvid": {"source": "ftp"}}},
            "corpora.webvid.source: got 'ftp'; should be 'youtube', 'http' or 'local'",
        ),
        (
            {"corpora": {"webvid": {"fetch": {"spanz": 1}}}},
            "corpora.webvid.fetch.spanz: unknown key; did you mean 'spans'?",
        ),
        (
            {"corpora": {"webvid": {"shards": "many"}}},
            "corpora.webvid.shards: got 'many'; should be a valid integer",
        ),
        (
            {"runs": {"b16": {"set": {"optim": {"lr_new": "1e-4"}}}}},
            "runs.b16.optim.lr_new: got '1e-4'; should be a valid number; "
            "YAML reads 1e-4 as text, write it with a dot: 1.0e-04",
        ),
        (
            {"runs": {"b16": {"set": {"optim": {"lr_new": 3.0}}}}},
            "runs.b16.optim.lr_new: got 3.0; should be less than or equal to 1",
        ),
        (
            {"runs": {"b16": {"set": {"text": {"frozen_blocks": -1}}}}},
            "runs.b16.text.frozen_blocks: got -1; should be a number of blocks (0 = end-to-end) or 'all'",
        ),
        (
            {"runs": {"b16": {"set": {"model": {"preset": "b17"}}}}},
            "runs.b16.model.preset: unknown name 'b17' in models; known: b32, b16, h14",
        ),
        (
            {"runs": {"b16": {"set": {"data": {"datasets": ["yt2"]}}}}},
            "runs.b16.data.datasets: unknown name 'yt2' in datasets; known: yt, yt_k2, yt_k3, yt_k5, webvid",
        ),
        (
            {"runs": {"h14": {"set": {"launch": {"nodes": 10}}}}},
            "runs.h14: data.batch_size: 1024 clips cannot be shared by 80 processes (launch.nodes x gpus) with launch.accumulate = 1; "
            "take a multiple of 80",
        ),
        (
            {"runs": {"new": {"extends": "b99"}}},
            "runs.new.extends: unknown name 'b99' in runs; known: b16, b32, h14, clip-b32, clip-b16, clip-h14, "
            "official-b32, official-b16, official-h14, new",
        ),
        (
            {"runs": {"b32": {"extends": "h14"}, "h14": {"extends": "b32"}}},
            "runs.b32.extends: circle b32 -> h14 -> b32",
        ),
        (
            {"runs": {"a/b": {"extends": "b16"}}},
            "runs.a/b: names are letters, digits, '-' and '_'",
        ),
        (
            {"targets": {"benchmarks": ["msrvt"]}},
            "targets.benchmarks.0: unknown name 'msrvt' in benchmarks; "
            "known: msrvtt, didemo, lsmdc, hmdb51, ucf101, k400, ssv2_mc",
        ),
        ({"targets": {"runs": ["b17"]}}, "targets.runs.0: unknown name 'b17' in runs"),
        (
            {"ablations": {"sorting": {"axis": None}}},
            "ablations.sorting: give either axis and a list of values, or no axis and a mapping label -> overrides",
        ),
        (
            {"ablations": {"sorting": {"axis": "objective.sorting_wait"}}},
            "ablations.sorting.values.0.0.objective.sorting_wait: unknown key; did you mean 'sorting_weight'?",
        ),
        (
            {"datasets": {"webvid": {"text": "transcript"}}},
            "datasets.webvid.text: 'transcript' needs corpora.webvid.transcribe",
        ),
        ({"datasets": {"yt": {"segment_seconds": [5.0, 3.0]}}}, "shortest must not exceed longest"),
    ],
)
def test_one_line_says_what_is_wrong(overlay: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Experiment.resolve(deep_merge(PAPER, overlay))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_every_problem_is_listed() -> None:
    overlay = {"corpora": {"webvid": {"shards": 0}}, "evaluation": {"pixels": "sharp"}}
    with pytest.raises(UserError) as caught:
        Experiment.resolve(deep_merge(PAPER, overlay))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "corpora.webvid.shards",
        "evaluation.pixels",
    ]


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such config file"):
        Experiment.load(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("runs: [", encoding="utf-8")
    with pytest.raises(UserError, match="not valid YAML"):
        Experiment.load(broken)
