"""The card of a model (README.md in its folder, front matter for a model hub): what it learnt from, what it scores, what it is not for.

Knows nothing of files but the one it writes: whoever calls it brings the facts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

CITATION = """\
@article{zeng2023tvtsv2,
  title   = {TVTSv2: Learning Out-of-the-box Spatiotemporal Visual Representations at Scale},
  author  = {Zeng, Ziyun and Ge, Yixiao and Tong, Zhan and Liu, Xihui and Xia, Shu-Tao and Shan, Ying},
  journal = {arXiv preprint arXiv:2305.14173},
  year    = {2023}
}"""
LICENCE = (
    "The code is Apache-2.0. The weights start from the CLIP named above and are under its licence too; whether they may be passed on "
    "also depends on the terms of the videos they learnt from, which are not distributed with them. Check both before you publish."
)
SMALL_HOURS = 100.0
"""With less video than this a model is a miniature, and its card says so."""
TASKS = {
    "retrieval": "zero-shot retrieval",
    "recognition": "zero-shot recognition",
    "linear_probe": "linear probe",
    "multiple_choice": "multiple choice",
    "sorting": "transcript sorting",
}


class Score(NamedTuple):
    """A number of a frozen evaluation. `low`, `high`: 95 % interval; `used` of `items` videos could be read. value None: not run."""

    benchmark: str
    protocol: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    used: int = 0
    items: int = 0


def write_card(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    datasets: Mapping[str, Mapping[str, Any]],
    scores: Sequence[Score] = (),
) -> str:
    """Write README.md into a model folder and return its text.

    name: of the run. settings: its resolved config. training: its card.json (empty for weights from elsewhere). datasets: card by name.
    scores: of the frozen evaluations; empty = not evaluated yet.
    """
    parts = [
        f"---\n{_front_matter(name, scores)}\n---",
        f"# {name}: a TVTSv2 video-text encoder",
        _summary(settings, training, datasets),
        f"## Use\n\n{_use(settings)}",
        f"## Training data\n\n{_data(datasets)}",
        f"## Training\n\n{_training(settings, training)}",
        f"## Scores\n\n{_scores(scores, training)}",
        f"## Limits\n\n{_limits(datasets, scores)}",
        f"## Licence\n\n{LICENCE}",
        f"## Cite\n\n```bibtex\n{CITATION}\n```",
    ]
    text = "\n\n".join(parts) + "\n"
    (folder / "README.md").write_text(text, encoding="utf-8")
    return text


def _front_matter(name: str, scores: Sequence[Score]) -> str:
    results = [
        EvalResult(
            task_type=TASKS[score.protocol].replace(" ", "-"),
            dataset_type=score.benchmark,
            dataset_name=score.benchmark,
            metric_type=score.metric,
            metric_value=round(score.value, 2),
        )
        for score in scores
        if score.value is not None
    ]
    data = ModelCardData(
        language="en",
        license="other",
        license_name="see-licence-section",
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=["tvts", "video", "video-text-retrieval", "clip"],
        model_name=name,
        eval_results=results or None,
    )
    return data.to_yaml()


def _summary(
    settings: Mapping[str, Any], training: Mapping[str, Any], datasets: Mapping[str, Mapping[str, Any]]
) -> str:
    frozen = settings["text"]["frozen_blocks"]
    kept = {"0": "all blocks of the text encoder were tuned", "all": "the whole text encoder stayed frozen"}.get(
        str(frozen), f"the lowest {frozen} blocks of the text encoder stayed frozen"
    )
    if not training:
        return "Weights of the TVTSv2 authors' release, converted. The method: arXiv 2305.14173."
    hours = sum(card["hours"]["usable"] for card in datasets.values())
    return (
        "Videos and texts in one space. A CLIP with attention over time, tuned by putting shuffled transcripts in order and by "
        f"video-text contrast (TVTSv2, arXiv 2305.14173): {training['step']:,} steps on {hours:,.1f} hours of video; {kept}."
    )


def _use(settings: Mapping[str, Any]) -> str:
    return f"""\
```python
from tvts.model import TVTSModel, TVTSProcessor  # or transformers' AutoModel, AutoProcessor with trust_remote_code=True

model, processor = TVTSModel.from_pretrained(FOLDER).eval(), TVTSProcessor.from_pretrained(FOLDER)
video = model.get_video_features(processor(videos=frames)["video"])  # frames: uint8 [{settings["model"]["frames"]}, H, W, 3], evenly spread
text = model.get_text_features(processor(text=["a dog runs"])["input_ids"])  # compare by cosine
```

`tvts search "a dog runs" --videos FOLDER_OF_VIDEOS --model FOLDER` searches your own videos."""


def _data(datasets: Mapping[str, Mapping[str, Any]]) -> str:
    if not datasets:
        return "Not known here."
    rows = [
        "| dataset | corpus | text | clips | hours | windows | languages | inputs |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for name, card in datasets.items():
        settings, counts = card["settings"], {stage["stage"]: stage["count"] for stage in card["funnel"]}
        rows.append(
            f"| {name} | {settings['corpus']} | {settings['text']} | {sum(card['clips'].values()):,} | {card['hours']['usable']:,.1f} "
            f"| {counts.get('windows', 0):,} | {', '.join(card['languages']) or '-'} | `{card['inputs_sha256'][:12]}` |"
        )
    rows += [
        "",
        "Counted after all rules; the attrition from the list of videos on is in each dataset's card. The videos are not part of it.",
    ]
    return "\n".join(rows)


def _training(settings: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    model, data, objective, optim = (settings.get(part) or {} for part in ("model", "data", "objective", "optim"))
    facts = {
        "start": f"CLIP in `{model['clip']}`",
        "frames, mask": f"{model['frames']} frames, {model['mask_ratio']:.0%} of the patches hidden while training",
    }
    if training:
        facts |= {
            "frozen text blocks": settings["text"]["frozen_blocks"],
            "batch": f"{data['batch_size']} clips",
            "objective": f"contrast x {objective['contrastive_weight']:g}, sorting x {objective['sorting_weight']:g}",
            "learning rate": f"new {optim['lr_new']:g}, from CLIP {optim['lr_clip']:g}",
            "seed": settings["seed"],
            "config, data, code": ", ".join(
                f"`{training[f'{part}_sha256'][:12]}`" for part in ("config", "data", "code")
            ),
            "commit": training["git_commit"] or "unknown",
            "made with": ", ".join(f"{package} {version}" for package, version in training["versions"].items())
            + f" on {training['device']}, {training['finished']}",
        }
    return "\n".join(["| what | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items())])


def _scores(scores: Sequence[Score], training: Mapping[str, Any]) -> str:
    held_out = ", ".join(
        f"{name.removeprefix('val_')} {value:.1f}"
        for name, value in training.get("metrics", {}).items()
        if name.startswith("val_") and name != "val_windows"
    )
    lines = [f"On held-out windows of its own data: {held_out}.", ""] if held_out else []
    if not scores:
        return "\n".join([*lines, "Not evaluated yet."])
    lines += ["Frozen, percent. Coverage: videos that could be read.", ""]
    lines += ["| benchmark | protocol | metric | value | 95 % interval | coverage |", "|---|---|---|---:|---|---|"]
    for score in scores:
        if score.value is None:
            lines.append(f"| {score.benchmark} | {TASKS[score.protocol]} | {score.metric} | not run | | |")
            continue
        coverage = f"{score.used} of {score.items}"
        interval = f"{score.low:.1f} to {score.high:.1f}" if score.low is not None and score.high is not None else ""
        lines.append(
            f"| {score.benchmark} | {TASKS[score.protocol]} | {score.metric} | {score.value:.1f} | {interval} | {coverage} |"
        )
    return "\n".join(lines)


def _limits(datasets: Mapping[str, Mapping[str, Any]], scores: Sequence[Score]) -> str:
    limits = [
        "Text is what a speech recogniser heard or a caption said, in the languages above; other languages are not understood.",
        "It sees a few frames spread over a clip: what happens between them, sound and written text in the picture are lost on it.",
        "It carries the biases of its videos and of the CLIP it starts from. Not for recognising, tracking or judging people.",
        "A score holds for its benchmark, protocol and coverage; compare only within one table.",
    ]
    hours = sum(card["hours"]["usable"] for card in datasets.values())
    if datasets and hours < SMALL_HOURS:
        limits.insert(
            0,
            f"**A miniature**: {hours:.1f} hours of video. It knows what it was shown and does not carry over to other videos.",
        )
    if any(score.value is not None and score.used < score.items for score in scores):
        limits.append("Some benchmark videos could not be read; see coverage.")
    return "\n".join(f"- {limit}" for limit in limits)
