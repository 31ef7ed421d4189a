# Purpose: the checked config and the functions that rules share. No rules here.

import atexit
import gc
import json
import os
import re
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from tvts.config import Experiment, UserError, frozen_run, identity, operational
from tvts.config.schema import warning_seconds
from tvts.explain import explain
from tvts.files import sha256_json
from tvts.recover import hold
from tvts.report import paper

# A graph of thousands of jobs is millions of objects that all stay: searching them for garbage took a quarter of a dry run.
gc.set_threshold(1_000_000, 100, 100)


def resolved_experiment():
    """The config, checked. Refuses a config that was edited while a workflow that uses it runs."""
    try:
        experiment = Experiment.resolve(config)
    except UserError as error:
        raise WorkflowError(f"config: {error}") from None
    now = sha256_json(config)
    if os.environ.setdefault("TVTS_CONFIG_SHA256", now) != now:
        raise WorkflowError(
            "config was edited while the workflow runs: undo the edit, or stop the workflow and start it again"
        )
    return experiment


EXPERIMENT = resolved_experiment()
ALIVE = []  # the file that says so


def follow_live():
    """Tell trainings where to send their metrics while they run. Not a parameter of a rule: it changes no result."""
    if (EXPERIMENT.config.tracking.uri or "").startswith("http"):
        os.environ.setdefault("TVTS_TRACKING", settings(EXPERIMENT.config.tracking))


def allow_requeue():
    """Tell a training which SLURM job to put back into the queue when it is stopped: one that Snakemake submitted, never one it runs in."""
    if workflow.remote_exec and (job := os.environ.get("SLURM_JOB_ID")):
        os.environ.setdefault("TVTS_REQUEUE", job)


@cache
def shard_names(corpus):
    """Names of a corpus' shards."""
    return [f"{number:05d}" for number in range(EXPERIMENT.config.corpora[corpus].shards)]


def settings(part, without=()):
    """What decides results in a part of the config, as the JSON that `tvts` commands take.

    The rest, `operational`, goes into `resources`, whose change makes nothing again.
    """
    decisive = {key: value for key, value in identity(part).items() if key not in {"obtain", *without}}
    return json.dumps(decisive, separators=(",", ":"))


follow_live()
allow_requeue()


@cache
def fetch_settings(corpus):
    """A corpus as JSON for its download: without what is done to the clips later, unless spans are placed by words."""
    found = EXPERIMENT.config.corpora[corpus]
    return settings(_with_index(corpus, found), without=() if found.fetch.spans.place == "words" else {"transcribe"})


@cache
def transcribe_settings(corpus):
    """The transcription of a corpus as JSON."""
    return settings(_with_index(corpus, EXPERIMENT.config.corpora[corpus]).transcribe)


def _with_index(corpus, found):
    """The corpus, with the annotations of YT-Temporal read from their index."""
    index = words_index(corpus)
    if not index:
        return found
    transcribe = found.transcribe.model_copy(update={"annotations": index[0]})
    return found.model_copy(update={"transcribe": transcribe})


def words_index(corpus):
    """The index of a corpus' annotations, if it has annotations that need one."""
    transcribe = EXPERIMENT.config.corpora[corpus].transcribe
    return [f"results/corpora/{corpus}/annotations.sqlite"] if transcribe and transcribe.engine == "yt_temporal" else []


@cache
def words_of_spans(corpus):
    """The index of the words that a corpus' spans are placed by, if they are and if it needs one."""
    return words_index(corpus) if EXPERIMENT.config.corpora[corpus].fetch.spans.place == "words" else []


@cache
def transcribe_inputs(corpus):
    """What a corpus' transcription needs besides clips: a model, or the index of its annotations."""
    model = EXPERIMENT.config.corpora[corpus].transcribe.model
    return [*([model] if model else []), *words_index(corpus)]


def corpus_of(dataset):
    """The corpus a dataset is made from."""
    return EXPERIMENT.config.datasets[dataset].corpus


def transcripts_of(dataset, shards):
    """Transcript files of a dataset's shards; none for captions."""
    if EXPERIMENT.config.datasets[dataset].text == "caption":
        return []
    return [f"results/corpora/{corpus_of(dataset)}/transcripts/{shard}.parquet" for shard in shards]


def launch(run):
    """Nodes, GPUs, threads, memory and minutes of a run's training."""
    return EXPERIMENT.runs[run].launch


def torchrun(run):
    """What starts a run's processes on this machine, if there are several."""
    gpus = launch(run).gpus
    return f"torchrun --standalone --nproc-per-node={gpus} --no-python" if gpus > 1 else ""


def model_folder(run):
    """The folder that holds a run's weights."""
    settled = EXPERIMENT.runs[run]
    return settled.model.clip if settled.kind == "clip" else f"results/runs/{run}/model"


def model_of(run):
    """The file or folder that stands for a run's weights in the DAG."""
    return f"{model_folder(run)}/config.json" if EXPERIMENT.runs[run].kind == "clip" else model_folder(run)


def baselines(ablation=None):
    """Untrained CLIP runs: those among the targets, or those of the sizes of an ablation's members."""
    members = EXPERIMENT.ablation_runs(ablation) if ablation else EXPERIMENT.target_runs()
    sizes = {EXPERIMENT.runs[name].model.preset for name in members}
    return [
        name
        for name, run in EXPERIMENT.runs.items()
        if run.kind == "clip" and (run.model.preset in sizes if ablation else name in members)
    ]


def trained_runs():
    """Target runs that are trained here."""
    return [name for name in EXPERIMENT.target_runs() if EXPERIMENT.runs[name].kind == "tvts"]


def training_figures():
    """The figure of the trainings, if there are any among the targets."""
    return ["results/report/figures/training.png"] if trained_runs() else []


def sorter_of(dataset):
    """The first target run that sorts a dataset's windows: the one whose example is shown."""
    return next(name for name in trained_runs() if (dataset, "sorting") in EXPERIMENT.protocols(name))


def captions():
    """The benchmark whose captions are the descriptive register of distortion: the first there is, else the first."""
    known = EXPERIMENT.caption_benchmarks()
    return next((name for name in known if not absent(name)), known[0])


def folders_of(benchmark):
    """Annotations and videos of a benchmark that somebody must bring (a benchmark made by rules lies under results/).

    A folder that holds the other is not named: no file of the workflow may lie in another.
    """
    settings = EXPERIMENT.config.benchmarks[benchmark]
    paths = [settings.annotations, *([] if settings.videos.startswith("results/") else [settings.videos])]
    return [path for path in paths if not any(Path(path) in Path(other).parents for other in paths)]


def absent(benchmark):
    """Whether annotations or videos of a benchmark are missing."""
    return any(path in MISSING for path in folders_of(benchmark))


def scores(*runs, present=False):
    """Score files of runs; `present` leaves out what needs a benchmark that is missing."""

    def there(subject, protocol):
        benchmark = captions() if protocol == "distortion" else subject
        return benchmark not in EXPERIMENT.config.benchmarks or not absent(benchmark)

    return [
        f"results/scores/{run}/{subject}.{protocol}.json"
        for run in runs
        for subject, protocol in EXPERIMENT.protocols(run)
        if there(subject, protocol) or not present
    ]


def distortion_scores(ablation):
    """Distortion of an ablation's members and of their CLIP, where more or less of the text tower is frozen."""
    runs = EXPERIMENT.distortion_runs(ablation) if EXPERIMENT.caption_benchmarks() else {}
    return [f"results/scores/{run}/{dataset}.distortion.json" for run, dataset in runs.items()]


def distortion_figures(*ablations):
    """Figures of the distortion in those ablations that have one."""
    return [f"results/report/figures/distortion_{name}.png" for name in ablations if distortion_scores(name)]


def paper_tables():
    """The paper's tables with ours beside, if any target run stands for one of its models."""
    numbers = paper.TITLES if paper.concerns(EXPERIMENT) else []
    return [f"results/report/tables/paper_table{number}.csv" for number in numbers]


def report_what_is_there():
    """Tables and front page from what is done, whatever failed. For the main process."""
    if Path("results/report/config.json").exists():
        for command in ("tables --output results/report/tables", "page --output results/report/index.html"):
            shell(f"tvts {command} --config results/report/config.json")


def clips():
    """Tars that the target runs are trained from: part of the default target, so that a lost one is made again."""
    used = {name for run in trained_runs() for name in EXPERIMENT.runs[run].data.datasets}
    corpora = sorted({corpus_of(name) for name in used})
    return [f"results/corpora/{corpus}/clips/{shard}.tar" for corpus in corpora for shard in shard_names(corpus)]


def sorting_datasets():
    """Datasets with transcripts to sort among those the target runs train on."""
    return list(
        dict.fromkeys(
            subject
            for run in EXPERIMENT.target_runs()
            for subject, protocol in EXPERIMENT.protocols(run)
            if protocol == "sorting"
        )
    )


def missing_files(runs, benchmarks):
    """Files that `runs` and `benchmarks` need and the workflow cannot make -> how to get them. Files that exist are not listed."""
    used = [EXPERIMENT.runs[name] for name in runs]
    corpora = [EXPERIMENT.config.corpora[corpus_of(name)] for run in used if run.data for name in run.data.datasets]
    wanted = {corpus.list: corpus.obtain for corpus in corpora}
    wanted |= {
        corpus.transcribe.model: f"copy the {corpus.transcribe.engine} checkpoint there"
        for corpus in corpora
        if corpus.transcribe and corpus.transcribe.model
    }
    wanted |= {
        corpus.transcribe.annotations: f"copy the files that {corpus.transcribe.engine} reads there"
        for corpus in corpora
        if corpus.transcribe and corpus.transcribe.annotations
    }
    wanted |= {f"{run.model.clip}/config.json": run.model.obtain for run in used}
    wanted |= {run.checkpoint: "download the released checkpoint" for run in used if run.checkpoint}
    wanted |= {path: EXPERIMENT.config.benchmarks[name].obtain for name in benchmarks for path in folders_of(name)}
    return {path: how for path, how in wanted.items() if not (path.startswith("results/") or Path(path).exists())}


def one_of(names):
    """A wildcard constraint that allows exactly `names`."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def announce(files):
    """Tell the person at the terminal which files are missing; jobs on a cluster stay silent."""
    for path, how in files.items() if workflow.is_main_process else ():
        print(f"missing: {path}\n         {how}", file=sys.stderr)


MISSING = missing_files(EXPERIMENT.runs, EXPERIMENT.config.benchmarks)
atexit.register(announce, missing_files(EXPERIMENT.target_runs(), EXPERIMENT.config.targets.benchmarks))


EXTRA_TARGETS = []  # files that rules in `extra_rules` add to the default target


wildcard_constraints:
    corpus=one_of(EXPERIMENT.config.corpora),
    dataset=one_of(EXPERIMENT.config.datasets),
    run=one_of(EXPERIMENT.runs),
    benchmark=one_of(EXPERIMENT.config.benchmarks),
    ablation=one_of(EXPERIMENT.config.ablations),
    shard=r"\d{5}",
