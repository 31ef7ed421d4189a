"""Tables from score files: what was run, what was not, means over seeds, ours beside the paper's."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tvts.config import Experiment
from tvts.report import paper
from tvts.report.scores import Metric, Scores
from tvts.report.tables import Table, latex, markdown, mean_sd, paper_table, write_tables


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_results_have_every_run_and_headline(scored: Experiment, tmp_path: Path) -> None:
    write_tables(scored, tmp_path, tmp_path / "tables")
    rows = {row["run"]: row for row in read(tmp_path / "tables/results.csv")}
    assert set(rows) == set(scored.target_runs())
    assert rows["clip"]["words text-to-video R@1"] == "45.0"
    assert rows["clip"]["words text-to-video R@1 (concepts=unseen)"] == "44.0"
    assert rows["clip"]["toy transcripts in place"] == "not run"
    assert rows["clip"]["actions zero-shot top-1"] == "12.0"
    text = (tmp_path / "tables/results.md").read_text()
    assert "| clip | 45.0 | " in text and "not run" in text


def test_scores_of_another_experiment_stay_out(
    scored: Experiment, add_score: Callable[..., None], tmp_path: Path
) -> None:
    add_score("clip", "motions", "retrieval", **{"t2v_R@1": 99.0})
    assert {subject for _, subject, _ in Scores(scored, tmp_path).files} == {"words", "actions", "toy"}


def test_ablation_is_mean_and_deviation_over_seeds(scored: Experiment, tmp_path: Path) -> None:
    write_tables(scored, tmp_path, tmp_path / "tables")
    rows = read(tmp_path / "tables/ablation_depth.csv")
    assert [row["frozen text blocks"] for row in rows] == ["0", "1", "all", "CLIP"]
    assert [row["words text-to-video R@1"] for row in rows] == ["51.0 ± 1.0", "61.0 ± 1.0", "71.0 ± 1.0", "45.0"]
    assert [row["runs"] for row in rows] == ["3/3", "3/3", "3/3", "1/1"]
    assert r"$\pm$" in (tmp_path / "tables/ablation_depth.tex").read_text()


def test_distortion_is_a_table_of_its_own(distorted: Experiment, tmp_path: Path) -> None:
    write_tables(distorted, tmp_path, tmp_path / "tables")
    rows = read(tmp_path / "tables/distortion_depth.csv")
    assert [row["1 - CKA, captions"] for row in rows] == ["0.500 ± 0.000", "0.300 ± 0.000", "0.000 ± 0.000"]
    assert [row["speech R@1 across"] for row in rows] == ["11.0 ± 1.0", "21.0 ± 1.0", "31.0 ± 1.0"]
    assert "toy distortion" not in (tmp_path / "tables/results.md").read_text()


def test_unfinished_ablations_say_how_far_they_are(
    experiment: Experiment, add_score: Callable[..., None], tmp_path: Path
) -> None:
    add_score(experiment.members["depth"]["1"][0], "actions", "recognition", top1=33.0)
    write_tables(experiment, tmp_path, tmp_path / "tables")
    rows = read(tmp_path / "tables/ablation_depth.csv")
    assert [row["runs"] for row in rows] == ["0/3", "1/3", "0/3"]
    assert [row["actions zero-shot top-1"] for row in rows] == ["not run", "33.0", "not run"]


def test_all_scores_are_listed_with_interval_chance_and_coverage(scored: Experiment, tmp_path: Path) -> None:
    write_tables(scored, tmp_path, tmp_path / "tables")
    row = next(row for row in read(tmp_path / "tables/scores.csv") if (row["run"], row["metric"]) == ("clip", "top1"))
    assert (row["value"], row["low"], row["high"], row["chance"]) == ("12.0", "10.0", "14.0", "1.0")
    assert row["coverage"] == "99/100"


def test_paper_tables_hold_the_published_numbers() -> None:
    rows = paper.rows()
    assert [sum(row.table == table for row in rows) for table in (2, 3, 4)] == [8 * 3 * 4, 3 * 4, 3 * 3]
    published = {(row.model, row.benchmark, row.metric): row.value for row in rows if row.table < 4}
    assert published["TVTSv2 H/14", "msrvtt", "t2v_R@1"] == 38.2
    assert published["TVTSv2 B/16 + DSL", "didemo", "dsl_t2v_R@1"] == 39.0
    assert published["TVTSv2 B/16", "ssv2_mc", "top1"] == 42.1


def test_paper_table_sets_ours_beside_it(add_score: Callable[..., None], tmp_path: Path) -> None:
    retrieval = {"adapter": "table", "annotations": "x", "videos": "x", "protocols": ["retrieval"]}
    config = {
        "corpora": {}, "datasets": {}, "models": {"b16": {"clip": "x"}}, "targets": {}, "benchmarks": {"msrvtt": retrieval},
        "runs": {
            "clip-b16": {"set": {"kind": "clip", "model": {"preset": "b16"}}},
            "released": {"set": {"kind": "official", "checkpoint": "x.pth", "model": {"preset": "b16"}}},
        },
    }  # fmt: skip
    experiment = Experiment.resolve(config)
    add_score("clip-b16", "msrvtt", "retrieval", used=98, **{"t2v_R@1": 30.0})
    rows = {tuple(row[:4]): list(row[4:]) for row in paper_table(2, experiment, Scores(experiment, tmp_path)).rows}
    assert rows["CLIP B/16", "clip-b16", "msrvtt", "t2v_R@1"] == [31.8, 30.0, "-1.8", "98/100"]
    assert rows["CLIP B/16", "clip-b16", "didemo", "t2v_R@1"] == [27.7, None, None, "not run"]
    assert ("TVTSv2 B/16", "released", "msrvtt", "t2v_R@1") not in rows
    add_score("released", "msrvtt", "retrieval", **{"t2v_R@1": 36.0})
    table = paper_table(2, experiment, Scores(experiment, tmp_path))
    rows = {tuple(row[:4]): list(row[4:]) for row in table.rows}
    assert rows["TVTSv2 B/16", "released", "msrvtt", "t2v_R@1"] == [35.9, 36.0, "+0.1", "100/100"]
    assert rows["TVTSv2 B/16", "b16", "msrvtt", "t2v_R@1"] == [35.9, None, None, "not run"]
    assert "| CLIP B/16 | clip-b16 | didemo | t2v_R@1 | 27.7 | not run | not run | not run |" in markdown(table)


def test_the_default_config_names_the_paper_s_runs_and_benchmarks() -> None:
    experiment = Experiment.load(Path(__file__).parents[2] / "config.yaml")
    for row in paper.rows():
        assert row.run in experiment.runs
        assert row.protocol in experiment.config.benchmarks[row.benchmark].protocols


def test_special_characters_stay_text() -> None:
    table = Table("100 % of a_b", ["a|b", "c&d"], [["x_y", 1.25], ["z", None]], "±")
    assert r"| a\|b | c&d |" in markdown(table)
    assert r"100 \% of a\_b" in latex(table) and r"x\_y & 1.2 \\" in latex(table) and r"z & not run \\" in latex(table)


def test_mean_and_deviation() -> None:
    assert mean_sd([]) is None
    assert mean_sd([71.25]) == "71.2"
    assert mean_sd([70.0, 72.0]) == "71.0 ± 1.4"


def test_titles_are_for_people() -> None:
    assert Metric("ucf101", "linear_probe", "top1").title == "ucf101 linear probe top-1"
    assert Metric("a", "retrieval", "t2v_R@1", "x=y").title == "a text-to-video R@1 (x=y)"


def test_no_scores_at_all_still_gives_tables(experiment: Experiment, tmp_path: Path) -> None:
    write_tables(experiment, tmp_path, tmp_path / "tables")
    assert (tmp_path / "tables/results.csv").read_text().splitlines()[1] == "base"
    with pytest.raises(KeyError):
        Scores(experiment, tmp_path).files["base", "words", "retrieval"]
