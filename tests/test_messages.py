"""Every kind of mistake a person can make at the command line, and the one line it gets.

Mistakes in a config: tests/config/test_errors.py. Bad videos: tests/corpus/test_hostile.py.
"""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.evaluate.conftest import tvts_folder  # noqa: F401

from tvts.cli import app, main

LOCAL = '{"source": "local", "list": "nolist.csv", "shards": 1}'
SHARD = ("--shard", "0", "--settings", LOCAL, "--tar", "a.tar", "--index", "a.parquet")
TRAIN = ("--dataset", "x/card.json", "--folder", "f", "--model", "m", "--card", "c.json")
TABLE = '{"adapter": "table", "annotations": "no.csv", "videos": "v", "protocols": ["retrieval"], "obtain": ""}'

MESSAGES: list[tuple[tuple[str, ...], str]] = [
    # the command line itself
    (("pretrian",), "tvts: No such command 'pretrian'. Did you mean 'pretrain', 'retry'?; see: tvts --help"),
    (("pretrain",), "tvts pretrain: Missing argument 'config'; see: tvts pretrain --help"),
    (("pretrain", "{run}"), "tvts pretrain: Missing option '--dataset'; see: tvts pretrain --help"),
    (("embed", "--modle", "x"), "tvts embed: No such option: --modle (Possible options: --model); see: tvts embed --help"),
    (("figure", "x"), "tvts figure: Invalid value for 'kind': 'x' is not one of 'ablation', "),
    (("bench", "model", "--batch", "0"), "tvts bench model: Invalid value for '--batch': Input should be greater than or equal to 1"),
    (("bench", "model", "--batch", "many"), "tvts bench model: Invalid value for '--batch': Input should be a valid integer"),
    (("watch",), "tvts: watch: give the command to run, for example: tvts watch snakemake --cores 2"),
    (("watch", "nosuchcommand"), "tvts: nosuchcommand: No such file or directory; check the path"),
    # settings and configs
    (("plan", "--settings", "{", "--output", "o"), "tvts: --settings: not valid JSON ("),
    (("plan", "--settings", "@no.json", "--output", "o"), "tvts: no.json: No such file or directory; check the path"),
    (("plan", "--settings", '{"list": "x"}', "--output", "o"), "tvts: --settings.source: required, but not given"),
    (("benchmarks", "--config", "no.yaml"), "tvts: no.yaml: no such config file"),
    (("benchmarks", "--config", "{broken_yaml}"), "broken.yaml: not valid YAML: while parsing a flow node"),
    (("tables", "--config", "{broken_json}", "--output", "o"), "broken.json: not valid JSON: Expecting property name"),
    (("tables", "--config", "{list_yaml}", "--output", "o"), "list.yaml: got ['runs']; a config is a mapping of sections to settings"),
    (("track", "--config", "{typo}"), "tvts: corporas: unknown key; did you mean 'corpora'?"),
    # the corpus
    (("plan", "--settings", LOCAL, "--output", "o"), "tvts: corpus list nolist.csv: no such file; "),
    (("download", "--plan", "no.parquet", *SHARD), "tvts: no.parquet: no such plan; run the stage that writes it"),
    (("download", "--plan", "{text}", *SHARD), "text: not a readable plan ("),
    (
        ("transcribe", "--tar", "a", "--index", "no", "--settings", '{"engine": "pocketsphinx"}', "--output", "o"),
        "tvts: no: no such index of clips; run the stage that writes it",
    ),
    (
        ("transcribe", "--tar", "a", "--index", "no", "--settings", '{"engine": "whisperr"}', "--output", "o"),
        "tvts: --settings.engine: got 'whisperr'; should be 'whisper', 'faster_whisper', 'pocketsphinx', 'captions' or 'yt_temporal'",
    ),
    (("dataset", "--index", "no", "--settings", '{"corpus": "x"}', "--output", "o"), "tvts: no: no such index of clips"),
    # training and models
    (("pretrain", "no.json", *TRAIN), "tvts: no.json: no such config file"),
    (("pretrain", "{run}", *TRAIN), "tvts: x/card.json: no such dataset card; build it with `snakemake x/card.json`"),
    (("convert", "no.pth", "--clip", "no", "--output", "o"), "tvts: no: expected a CLIP folder, but there is no readable config.json"),
    (("convert", "{text}", "--clip", "{clip}", "--output", "o"), "text: not a PyTorch checkpoint, or damaged"),
    (("bench", "model", "--device", "cuda"), "tvts: --device: cuda was asked for, but PyTorch sees no GPU; use auto or cpu"),
    # evaluation
    (
        ("embed-benchmark", "{run}", "--model", "no", "--settings", TABLE, "--evaluation", "{}", "--output", "o"),
        "tvts: no.csv: no such annotation file or folder",
    ),
    (
        ("score", "no.safetensors", "--protocol", "retrieval", "--evaluation", "{}", "--output", "o"),
        "tvts: no.safetensors: no such features; run `tvts embed-benchmark` first",
    ),
    (("score", "{text}", "--protocol", "retrieval", "--evaluation", "{}", "--output", "o"), "text: not a features file ("),
    (
        ("score-sorting", "{run}", "--model", "no", "--dataset", "x", "--output", "o"),
        "tvts: no: not a tvts model folder with weights and tokenizer: there is no config.json in it",
    ),
    # the report
    (("figure", "ablation", "depht", "--config", "{config}", "--output", "o"), "tvts: depht: unknown ablation; known: depth"),
    (("figure", "window", "toy", "--config", "{config}", "--output", "o"), "tvts: dataset toy: no run has sorted its windows yet"),
    (("model-card", "bose", "--config", "{config}", "--output", "o"), "tvts: bose: unknown run; known: base, clip, "),
    (("model-card", "base", "--config", "{config}", "--output", "o"), "model: no model there; train it first: snakemake results/runs/base"),
    (("tables", "--config", "{config}", "--output", "{text}/o"), "text/o: Not a directory; check the path"),
    # your own videos
    (("embed", "no.mp4", "--model", "no"), "tvts: no: not a tvts model folder with weights and tokenizer: there is no config.json"),
    (("embed", "no.mp4", "--model", "{clip}"), "model folder with weights and tokenizer: its config.json says model_type 'clip'"),
    (("embed", "no.mp4", "--model", "{model}", "--keep", "k"), "none of the 1 videos could be read; its column `message` says why"),
    (("search", "x", "--videos", "no", "--model", "{model}"), "tvts: no: no such folder; expected one with video files in it"),
    (("search", "x", "--videos", "{folder}", "--model", "{model}", "--keep", "k"), "no video files; looked for avi, flv, m4v, "),
]  # fmt: skip


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, clip_folder: Path, tvts_folder: Path  # noqa: F811
) -> dict[str, Path]:  # fmt: skip
    """Things that messages are about, by the name that the table uses."""
    import yaml
    from tests.report.conftest import CONFIG

    from tvts.config import Experiment, frozen_run

    folder = tmp_path_factory.mktemp("files")
    contents = {
        "broken_yaml": "runs: [",
        "broken_json": "{",
        "list_yaml": "[runs]",
        "typo": yaml.safe_dump({**CONFIG, "corporas": {}}),
        "text": "hello",
        "config": yaml.safe_dump(CONFIG),
        "run": frozen_run(Experiment.resolve(CONFIG), "base"),
    }
    suffixes = {"broken_json": ".json", "run": ".json", "text": ""}
    for name, content in contents.items():
        stem = name.removesuffix("_yaml").removesuffix("_json")
        (folder / f"{stem}{suffixes.get(name, '.yaml')}").write_text(content, encoding="utf-8")
    paths = {
        name: folder / f"{name.removesuffix('_yaml').removesuffix('_json')}{suffixes.get(name, '.yaml')}"
        for name in contents
    }
    (folder / "empty").mkdir()
    return {**paths, "clip": clip_folder, "model": tvts_folder, "folder": folder / "empty"}


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str]:
    """Exit status and stderr of a command."""
    monkeypatch.setattr(sys, "argv", ["tvts", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), MESSAGES, ids=[" ".join(row[0])[:50] for row in MESSAGES])
def test_one_line_says_what_is_wrong(
    arguments: tuple[str, ...],
    message: str,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    named = [re.sub(r"\{(\w+)\}", lambda found: str(files[found[1]]), argument) for argument in arguments]
    status, told = run(monkeypatch, capsys, *named)
    lines = [line for line in told.splitlines() if not line.startswith("left out: ")]
    assert status == 2
    assert len(lines) == 1, told
    assert message in lines[0]


def test_without_a_command_there_is_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys) == (2, "")


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("tvts.version.version", fail)
    monkeypatch.setattr(sys, "argv", ["tvts", "--version"])
    with pytest.raises(OSError, match="Input/output error"):
        main()


def commands(group: Any, prefix: str = "tvts") -> dict[str, Any]:
    found = {}
    for name, command in group.commands.items():
        deeper = hasattr(command, "commands")
        found |= commands(command, f"{prefix} {name}") if deeper else {f"{prefix} {name}": command}
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_can_be_read(name: str) -> None:
    """The example names the command and only options it has."""
    command = COMMANDS[name]
    example = command.help.partition("Example: ")[2]
    assert example.startswith(name)
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"(?<= )--?[a-z][\w-]*", example.split(" snakemake ")[0])) <= known
    for parameter in command.params:
        if parameter.required:
            assert parameter.param_type_name == "argument" or parameter.opts[0] in example
        assert parameter.name == "help" or parameter.help, f"{name}: {parameter.name} has no help"
