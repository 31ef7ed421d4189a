"""The paper's numbers, as data: official result tables of TVTSv2 (TencentARC/TVTS at 290a63e,
`v2/assets/Tab2|3|4.png`).

Rows of "CLIP" are the authors' own runs of CLIP. Retrieval is zero-shot text-to-video; accuracies are top-1, one
split.
"""

from typing import NamedTuple

from tvts.config import Experiment

SOURCE = "arXiv 2305.14173, tables 2 to 4 as released in TencentARC/TVTS v2/assets"


class Row(NamedTuple):
    """One published number and where its counterpart lies: run, benchmark and metric by the names of `config.yaml`."""

    table: int
    model: str
    run: str
    benchmark: str
    protocol: str
    metric: str
    value: float


TITLES = {
    2: "Zero-shot text-to-video retrieval",
    3: "Zero-shot action recognition and SSV2 multiple choice (top-1)",
    4: "Linear probe (top-1)",
}
MODELS = {
    "clip-b32": "CLIP B/32", "clip-b16": "CLIP B/16", "b32": "TVTSv2 B/32", "b16": "TVTSv2 B/16", "h14": "TVTSv2 H/14",
}  # fmt: skip
RETRIEVAL_METRICS = ("R@1", "R@5", "R@10", "MedR")
RETRIEVAL: dict[str, dict[str, tuple[float, ...]]] = {
    "clip-b32": {"msrvtt": (30.6, 54.4, 64.3, 4), "didemo": (24.7, 49.3, 60.9, 6), "lsmdc": (13.6, 27.9, 35.5, 32)},
    "b32": {"msrvtt": (34.5, 58.5, 67.7, 3.5), "didemo": (31.2, 56.9, 68.3, 4), "lsmdc": (16.1, 30.6, 38.7, 25)},
    "clip-b16": {"msrvtt": (31.8, 53.9, 64.5, 4), "didemo": (27.7, 51.0, 62.5, 5), "lsmdc": (15.2, 29.7, 37.6, 25)},
    "b16": {"msrvtt": (35.9, 61.2, 71.3, 3), "didemo": (33.4, 60.1, 70.6, 3), "lsmdc": (16.9, 31.5, 38.2, 22)},
    "h14": {"msrvtt": (38.2, 62.4, 73.2, 3), "didemo": (34.6, 61.9, 71.5, 3), "lsmdc": (17.3, 32.5, 41.4, 20)},
}
DUAL_SOFTMAX: dict[str, dict[str, tuple[float, ...]]] = {
    "b32": {"msrvtt": (36.4, 58.0, 69.0, 3), "didemo": (37.0, 61.6, 70.9, 3), "lsmdc": (15.6, 31.8, 38.6, 22)},
    "b16": {"msrvtt": (37.8, 62.9, 72.4, 3), "didemo": (39.0, 63.9, 72.6, 3), "lsmdc": (18.3, 33.7, 41.9, 19)},
    "h14": {"msrvtt": (41.3, 63.0, 74.0, 2), "didemo": (39.5, 63.6, 73.1, 3), "lsmdc": (20.0, 37.8, 48.6, 11)},
}
"""With dual softmax; the paper's temperature is not published."""
ZERO_SHOT = {
    "clip-b16": {"hmdb51": 43.2, "ucf101": 68.9, "k400": 48.0, "ssv2_mc": 29.6},
    "b16": {"hmdb51": 50.4, "ucf101": 69.8, "k400": 54.3, "ssv2_mc": 42.1},
    "h14": {"hmdb51": 52.1, "ucf101": 78.0, "k400": 59.6, "ssv2_mc": 48.4},
}
LINEAR_PROBE = {
    "clip-b16": {"hmdb51": 62.8, "ucf101": 87.6, "k400": 66.9},
    "b16": {"hmdb51": 64.7, "ucf101": 90.0, "k400": 70.1},
    "h14": {"hmdb51": 65.7, "ucf101": 91.8, "k400": 73.1},
}


def rows() -> list[Row]:
    """Every published number, in table order."""
    found = []
    for table, suffix, prefix in ((RETRIEVAL, "", "t2v_"), (DUAL_SOFTMAX, " + DSL", "dsl_t2v_")):
        found += [
            Row(2, MODELS[run] + suffix, run, benchmark, "retrieval", prefix + metric, float(value))
            for run, benchmarks in table.items()
            for benchmark, values in benchmarks.items()
            for metric, value in zip(RETRIEVAL_METRICS, values, strict=True)
        ]
    for number, accuracies in ((3, ZERO_SHOT), (4, LINEAR_PROBE)):
        found += [
            Row(number, MODELS[run], run, benchmark, _protocol(number, benchmark), "top1", value)
            for run, benchmarks in accuracies.items()
            for benchmark, value in benchmarks.items()
        ]
    return found


def concerns(experiment: Experiment) -> bool:
    """Whether any target run stands for a model of the paper: by its name, or as a released checkpoint of its size."""
    runs = {name: experiment.runs[name] for name in experiment.target_runs()}
    return any(name in MODELS or (run.kind == "official" and run.model.preset in MODELS) for name, run in runs.items())


def _protocol(table: int, benchmark: str) -> str:
    if table == 4:
        return "linear_probe"
    return "multiple_choice" if benchmark == "ssv2_mc" else "recognition"
