"""The graph of jobs, from config alone: what would run, what is missing, what is refused."""

from pathlib import Path

import pytest
from tests.workflow.snake import ROOT, job_counts, snakemake

from tvts.config import Experiment

SMALL = {
    "corpora": {"yt_temporal": {"shards": 3}, "webvid": {"shards": 2}},
    "targets": {"runs": ["b16", "clip-b16"], "ablations": ["sorting"], "benchmarks": ["msrvtt", "ucf101"]},
}
DRY = ("-n", "--quiet", "rules")


def test_small_config(tmp_path: Path) -> None:
    assert job_counts(snakemake(tmp_path, *DRY, overlay=SMALL)) == {
        "missing": 8,
        "plan": 2,
        "download": 5,
        "transcribe": 3,
        "dataset_shard": 5,
        "dataset_card": 2,
        "freeze": 3,
        "pretrain": 2,
        "embed": 6,
        "score": 9,
        "score_sorting": 1,
        "freeze_config": 1,
        "tables": 1,
        "training_figure": 1,
        "funnel_figure": 1,
        "window_figure": 1,
        "ablation_figure": 1,
        "page": 1,
        "model_card": 2,
        "track": 1,
        "results_page": 1,
        "all": 1,
    }


def test_one_ablation_alone(tmp_path: Path) -> None:
    counts = job_counts(snakemake(tmp_path, "ablation_temporal_embedding", *DRY, overlay=SMALL))
    assert counts["pretrain"] == 2
    assert counts["ablation_figure"] == 1
    assert "track" not in counts


def test_mlflow_waits_for_every_figure_and_table_that_its_runs_hold(tmp_path: Path) -> None:
    counts = job_counts(snakemake(tmp_path, "results/mlflow.json", *DRY, overlay={"demo": True}))
    held = (
        "tables",
        "training_figure",
        "funnel_figure",
        "window_figure",
        "ablation_figure",
        "distortion_figure",
        "demo_word_errors",
    )
    assert [counts.get(rule) for rule in held] == [1] * len(held)


@pytest.mark.slow
@pytest.mark.parametrize("name", Experiment.load(ROOT / "config.yaml").config.ablations)
def test_every_ablation_is_a_target_of_its_own(tmp_path: Path, name: str) -> None:
    experiment = Experiment.load(ROOT / "config.yaml")
    counts = job_counts(snakemake(tmp_path, f"ablation_{name}", *DRY, overlay=SMALL))
    members = set(experiment.ablation_runs(name))
    assert counts["pretrain"] == len(members) == len(experiment.members[name])
    assert counts["embed"] >= 2 * len(members)
    assert counts["ablation_figure"] == counts[f"ablation_{name}"] == 1
    assert counts.get("score_distortion", 0) == len(experiment.distortion_runs(name))
    assert counts.get("distortion_figure", 0) == bool(experiment.distortion_runs(name))


def test_distortion_takes_the_captions_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "data/didemo/videos").mkdir(parents=True)
    (tmp_path / "data/didemo/DiDeMo_test.tsv").write_text("a dog\tx.mp4\n", encoding="utf-8")
    targets = SMALL["targets"] | {"ablations": ["freeze_depth"], "benchmarks": ["msrvtt", "didemo"]}
    run = snakemake(tmp_path, "results/scores/b16/yt.distortion.json", "-n", overlay=SMALL | {"targets": targets})
    assert "results/embeddings/b16/didemo.safetensors" in run.stdout
    assert "embeddings/b16/msrvtt" not in run.stdout


def test_the_ablations_of_the_paper_are_there() -> None:
    experiment = Experiment.load(ROOT / "config.yaml")
    values = {name: [str(label) for label in labels] for name, labels in experiment.members.items()}
    assert values["freeze_depth"] == ["0", "3", "6", "9", "all"]
    assert values["freeze_depth_h14"] == ["0", "6", "12", "18", "all"]
    assert values["text_tuning"] == ["end-to-end", "partial", "frozen"]
    assert values["transcripts"] == ["2", "3", "4", "5"]
    assert {"mask_ratio", "sorting", "contrastive_weight", "temporal_embedding", "frames"} <= values.keys()
    shared = [name for name, labels in experiment.members.items() if ["b16"] in labels.values()]
    assert len(shared) == len(values) - 1  # every ablation of B/16 takes up the run itself; none trains it again


@pytest.mark.slow
def test_the_papers_graph_is_whole_without_any_data(tmp_path: Path) -> None:
    run = snakemake(tmp_path, *DRY)
    counts = job_counts(run)
    experiment = Experiment.load(ROOT / "config.yaml")
    assert counts["download"] == 6500
    assert counts["transcribe"] == 6000
    assert counts["pretrain"] == sum(experiment.runs[name].kind == "tvts" for name in experiment.target_runs()) == 11
    assert counts["embed"] == len(experiment.target_runs()) * 7
    assert counts["missing"] == 20
    for name, benchmark in experiment.config.benchmarks.items():
        assert f"missing: {benchmark.annotations}\n         {benchmark.obtain}" in run.stderr, name


def test_yt_temporals_annotations_are_indexed_once_for_all_shards(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    transcribe = {"engine": "yt_temporal", "model": None, "annotations": "annotations"}
    corpus = {"shards": 3, "transcribe": transcribe, "fetch": {"spans": {"place": "words"}}}
    overlay = SMALL | {"corpora": {"yt_temporal": corpus}}
    run = snakemake(tmp_path, "results/datasets/yt/card.json", "-n", "-p", overlay=overlay)
    counts = job_counts(run)
    assert (counts["annotations"], counts["download"], counts["transcribe"]) == (1, 3, 3)
    assert "tvts annotations annotations --output results/corpora/yt_temporal/annotations.sqlite" in run.stdout
    assert run.stdout.count('"annotations":"results/corpora/yt_temporal/annotations.sqlite"') == 6


def test_a_missing_file_fails_with_the_way_to_get_it(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "results/corpora/webvid/plan.parquet", overlay=SMALL, check=False)
    assert run.returncode != 0
    assert "data/webvid/webvid_train.csv is missing. To get it: WebVid is withdrawn" in run.stderr


def test_a_present_file_is_never_an_output(tmp_path: Path) -> None:
    mine = tmp_path / "data/webvid/webvid_train.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("id,path,caption\na,a.mp4,a dog\n", encoding="utf-8")
    counts = job_counts(snakemake(tmp_path, "results/corpora/webvid/plan.parquet", *DRY, "--forceall", overlay=SMALL))
    assert counts == {"plan": 1}


def test_a_wrong_config_is_one_line(tmp_path: Path) -> None:
    run = snakemake(tmp_path, *DRY, overlay={"runs": {"b16": {"set": {"optim": {"lr_new": "1e-4"}}}}}, check=False)
    assert run.returncode != 0
    assert "config: runs.b16.optim.lr_new: got '1e-4'; should be a valid number" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr


def test_a_config_edited_while_running_is_refused(tmp_path: Path) -> None:
    run = snakemake(
        tmp_path, *DRY, overlay=SMALL, check=False, environment={"TVTS_CONFIG_SHA256": "of the config before"}
    )
    assert run.returncode != 0
    assert "config was edited while the workflow runs" in run.stdout + run.stderr


def test_the_slurm_profile_is_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    counts = job_counts(snakemake(tmp_path, "--profile", "slurm", *DRY, overlay=SMALL))
    assert counts["pretrain"] == 2
