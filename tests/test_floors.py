"""A module imports only from floors below its own (docs/architecture.md), and heavy packages only where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "code" / "tvts"
FLOORS = {
    "files": 0,
    "layout": 0,
    "watch": 0,
    "explain": 2,
    "version": 0,
    "recover": 2,
    "doctor": 3,
    "config": 1,
    "corpus": 2,
    "model": 2,
    "objectives": 3,
    "train": 4,
    "evaluate": 5,
    "report": 6,
    "bench": 6,
    "search": 6,
    "tracking": 7,
    "live": 8,
    "commands": 9,
    "cli": 10,
    "__main__": 11,
}
MODEL_MAY_IMPORT = {"torch", "transformers", "huggingface_hub"}
ONLY_IN = {
    "mlflow": {"tracking", "live"},
    "matplotlib": {"report"},
    "whisper": {"corpus"},
    "yt_dlp": {"corpus"},
    "snakemake": set(),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    mine = part(path)
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "tvts":
            other = rest.split(".")[0]
            assert other == mine or FLOORS[other] < FLOORS[mine], f"{mine} must not import tvts.{other}"
        assert mine in ONLY_IN.get(package, {mine}), f"{package} belongs in {ONLY_IN[package]}"


def test_a_saved_model_needs_torch_and_transformers_alone() -> None:
    found = {
        name.split(".")[0]
        for file in ("configuration", "modeling")
        for name in imports(PACKAGE / "model" / f"{file}.py")
    }
    assert found <= MODEL_MAY_IMPORT | {"collections", "dataclasses", "functools", "math", "typing", "pathlib"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


LONG = {
    "config/schema.py": "one class per section of config.yaml, read as a reference",
}
"""Files of more than 400 lines, and why."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long_without_a_reason(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    assert (len(path.read_text(encoding="utf-8").splitlines()) > 400) == (name in LONG)
