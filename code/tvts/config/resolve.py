"""From `config.yaml` to checked facts: files are merged, runs and ablations resolved, every reference looked up."""

import copy
import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tvts.config.errors import UserError, explain
from tvts.config.schema import Ablation, Config, Corpus, Evaluation, Fetch, Run, Transcribe
from tvts.files import sha256_json

AnySection = TypeVar("AnySection", bound=BaseModel)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PATIENCE = {"attempts": True, "timeout_seconds": True}
OPERATIONAL: dict[type[BaseModel], dict[str, Any]] = {
    Run: {
        "launch": True,
        "model": {"obtain"},
        "data": {"workers", "cache_gb", "max_corrupt_share"},
        "train": {
            "checkpoint_minutes",
            "keep_checkpoints",
            "log_every",
            "activation_checkpointing",
            "compile",
            "deterministic",
        },
    },
    Corpus: {"fetch": _PATIENCE},
    Fetch: _PATIENCE,
    Transcribe: {"device": True},
    Evaluation: {"device": True},
}
"""Settings of no influence on results but for rounding: where, how fast and how patiently work is done. Jobs get them aside from the
others (`--running`), so that changing them makes nothing again."""


def deep_merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `override` laid over it: mappings merge key by key, anything else is replaced."""
    merged = dict(copy.deepcopy(base))
    for key, value in override.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = deep_merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def read_yaml(paths: Iterable[str | Path]) -> dict[str, Any]:
    """Read YAML or JSON files and merge them, later over earlier, as Snakemake's `--configfile` does."""
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
            content = json.loads(text) if Path(path).suffix == ".json" else yaml.safe_load(text)
        except FileNotFoundError:
            raise UserError(f"{path}: no such config file") from None
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: not valid JSON: {error}") from None
        if not isinstance(content, dict | None):
            raise UserError(f"{path}: got {content!r}; a config is a mapping of sections to settings")
        merged = deep_merge(merged, content or {})
    return merged


def validate(section: type[AnySection], value: Any, path: str) -> AnySection:
    """Check `value` against `section`. Raises UserError with one line per problem, each starting with its key path."""
    try:
        return section.model_validate(value)
    except ValidationError as error:
        raise UserError("\n".join(explain(error, path, functools.partial(_keys_at, section)))) from None


def read_settings(section: type[AnySection], text: str, running: str = "{}") -> AnySection:
    """Settings of a stage, given on its command line as JSON or as `@file`, with those in `running` laid over them."""
    value = deep_merge(_read_option("--settings", text), _read_option("--running", running))
    return validate(section, value, "--settings")


def read_run(path: Path, running: str = "{}") -> Run:
    """A frozen run, `results/runs/{run}/config.json`, with the settings that it leaves out, `running`, laid over it."""
    return validate(Run, deep_merge(read_yaml([path]), _read_option("--running", running)), str(path))


def _read_option(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except json.JSONDecodeError as error:
        raise UserError(f"{option}: not valid JSON ({error}); give an object or @file") from None
    if not isinstance(value, dict):
        raise UserError(f"{option}: got {value!r}; give an object or @file")
    return value


def _keys_at(section: type[BaseModel], loc: tuple[Any, ...]) -> set[str]:
    """Keys known to the section that `loc` leads to. Names in a mapping are stepped over."""
    for part in loc:
        field = section.model_fields.get(str(part))
        candidates = _sections_in(field.annotation) if field else [section]
        section = candidates[0] if candidates else section
    return set(section.model_fields)


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _sections_in(part)]


@dataclass(frozen=True)
class Experiment:
    """A checked config with every run resolved.

    `runs` holds named runs and the members of ablations. A member that resolves to the same settings as an earlier run *is* that run.
    `members[ablation]` maps each axis label to its runs, one per seed.
    """

    config: Config
    runs: dict[str, Run]
    members: dict[str, dict[str, list[str]]]

    @classmethod
    def load(cls, *paths: str | Path) -> "Experiment":
        """Read, merge and check config files. Raises UserError."""
        return cls.resolve(read_yaml(paths))

    @classmethod
    def resolve(cls, raw: Mapping[str, Any]) -> "Experiment":
        """Check a merged config and resolve its runs. Raises UserError listing every problem."""
        config = validate(Config, dict(raw), "")
        runs: dict[str, Run] = {}
        for name in config.runs:
            _check_name("runs", name)
            runs[name] = _check_run(config, _resolve_entry(config, name), f"runs.{name}")
        members = {name: _members(config, name, ablation, runs) for name, ablation in config.ablations.items()}
        _check_references(config, runs)
        return cls(config, runs, members)

    def target_runs(self) -> list[str]:
        """Runs that the targets ask for: named ones and all members of the chosen ablations, without repeats."""
        chosen = [name for ablation in self.config.targets.ablations for name in self.ablation_runs(ablation)]
        return list(dict.fromkeys([*self.config.targets.runs, *chosen]))

    def ablation_runs(self, ablation: str) -> list[str]:
        """Every run of an ablation."""
        return [run for runs in self.members[ablation].values() for run in runs]

    def protocols(self, run: str) -> list[tuple[str, str]]:
        """(benchmark or dataset, protocol) pairs that score `run`: benchmarks of the targets, sorting of the transcripts
        it learns from, and, in ablations over frozen blocks, distortion.
        """
        pairs: list[tuple[str, str]] = [
            (name, protocol)
            for name in self.config.targets.benchmarks
            for protocol in self.config.benchmarks[name].protocols
        ]
        if self.runs[run].kind == "tvts" and self.runs[run].objective.sorting_weight > 0:
            pairs += [(name, "sorting") for name in self._spoken(run)]
        heard = [self.distortion_runs(name) for name in self.config.targets.ablations]
        if self.caption_benchmarks():
            pairs += dict.fromkeys((datasets[run], "distortion") for datasets in heard if run in datasets)
        return pairs

    def distortion_runs(self, ablation: str) -> dict[str, str]:
        """Runs whose distortion is measured -> the dataset whose transcripts it is measured on.

        These are the members of an ablation over the depth to which the text tower is frozen, and the CLIP they start
        from; none for other ablations.
        """
        members = self.ablation_runs(ablation)
        spoken = self._spoken(members[0])
        if self.config.ablations[ablation].axis != "text.frozen_blocks" or not spoken:
            return {}
        sizes = {self.runs[run].model.preset for run in members}
        clips = [name for name, run in self.runs.items() if run.kind == "clip" and {run.model.preset} == sizes]
        return dict.fromkeys([*members, *clips], spoken[0])

    def caption_benchmarks(self) -> list[str]:
        """Target benchmarks with captions: the descriptive register."""
        return [
            name for name in self.config.targets.benchmarks if "retrieval" in self.config.benchmarks[name].protocols
        ]

    def _spoken(self, run: str) -> list[str]:
        """Datasets with transcripts that a run learns from."""
        data = self.runs[run].data
        return [name for name in data.datasets if self.config.datasets[name].text == "transcript"] if data else []


def frozen_run(experiment: Experiment, name: str) -> str:
    """The identity of a run as a JSON string with sorted keys: what `results/runs/{run}/config.json` holds."""
    return json.dumps(identity(experiment.runs[name]), indent=2, sort_keys=True) + "\n"


def identity(section: BaseModel) -> dict[str, Any]:
    """Those settings of a run, or of another section, that decide its result."""
    return section.model_dump(exclude=OPERATIONAL.get(type(section)))


def operational(section: BaseModel) -> str:
    """The others, as JSON."""
    return section.model_dump_json(include=OPERATIONAL[type(section)])


def fingerprint(run: Run) -> str:
    """Hash of a run's identity."""
    return sha256_json(identity(run))


def _check_name(section: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise UserError(f"{section}.{name}: names are letters, digits, '-' and '_'")


def _resolve_entry(config: Config, name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Settings of a run with those of its ancestors below them."""
    if name in seen:
        raise UserError(f"runs.{name}.extends: circle {' -> '.join([*seen, name])}")
    entry = config.runs[name]
    if entry.extends is None:
        return entry.set
    _known("runs", f"runs.{name}.extends", entry.extends, config.runs)
    return deep_merge(_resolve_entry(config, entry.extends, (*seen, name)), entry.set)


def _check_run(config: Config, settings: dict[str, Any], path: str) -> Run:
    """Lay a run's model over its preset and check the whole."""
    preset = settings.get("model", {}).get("preset")
    if preset is not None:
        _known("models", f"{path}.model.preset", preset, config.models)
        settings = deep_merge({"model": config.models[preset].model_dump()}, settings)
    run = validate(Run, settings, path)
    for dataset in run.data.datasets if run.data else []:
        _known("datasets", f"{path}.data.datasets", dataset, config.datasets)
    return run


def _members(config: Config, name: str, ablation: Ablation, runs: dict[str, Run]) -> dict[str, list[str]]:
    """Resolve an ablation's members into `runs`, reusing runs with equal settings; label -> run names.

    A member is named after the run it varies, so that two experiments which share `results/` share no members.
    """
    _check_name("ablations", name)
    path = f"ablations.{name}"
    _known("runs", f"{path}.run", ablation.run, config.runs)
    base = _resolve_entry(config, ablation.run)
    if isinstance(ablation.values, dict):
        overrides = ablation.values
    else:
        overrides = {str(value): _nest(str(ablation.axis), value) for value in ablation.values}
    members: dict[str, list[str]] = {}
    for label, override in overrides.items():
        if not LABEL.fullmatch(label):
            raise UserError(f"{path}.values: {label!r} cannot name a run; give values as a mapping label -> overrides")
        for seed in ablation.seeds:
            settings = deep_merge(deep_merge(base, override), {"seed": seed})
            run = _check_run(config, settings, f"{path}.values.{label}")
            twin = next((other for other, known in runs.items() if fingerprint(known) == fingerprint(run)), None)
            run_name = twin or f"{ablation.run}-{name}-{label}-seed{seed}"
            if not twin and run_name in runs:
                raise UserError(
                    f"{path}: a member would be called {run_name}, like another run; give the ablation another name"
                )
            runs.setdefault(run_name, run)
            members.setdefault(label, []).append(run_name)
    return members


def _nest(dotted: str, value: Any) -> dict[str, Any]:
    """`a.b` and v -> {"a": {"b": v}}."""
    return functools.reduce(lambda inner, key: {key: inner}, reversed(dotted.split(".")), value)


def _check_references(config: Config, runs: dict[str, Run]) -> None:
    for section in ("corpora", "datasets", "models", "benchmarks"):
        for name in getattr(config, section):
            _check_name(section, name)
    for name, dataset in config.datasets.items():
        _known("corpora", f"datasets.{name}.corpus", dataset.corpus, config.corpora)
        if dataset.text == "transcript" and config.corpora[dataset.corpus].transcribe is None:
            raise UserError(f"datasets.{name}.text: 'transcript' needs corpora.{dataset.corpus}.transcribe")
    for index, name in enumerate(config.targets.runs):
        _known("runs", f"targets.runs.{index}", name, runs)
    for index, name in enumerate(config.targets.ablations):
        _known("ablations", f"targets.ablations.{index}", name, config.ablations)
    for index, name in enumerate(config.targets.benchmarks):
        _known("benchmarks", f"targets.benchmarks.{index}", name, config.benchmarks)


def _known(section: str, path: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise UserError(f"{path}: unknown name {name!r} in {section}; known: {', '.join(known) or 'none'}")
