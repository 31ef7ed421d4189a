"""Benchmarks: `load` turns the annotations of a benchmark into `Items`; one module per adapter, found by its name.

A new benchmark is a module here with `read(benchmark) -> Items` (and, where the real set has fixed sizes,
`EXPECTED`), plus an entry in `config.yaml`. Options every adapter knows: `expected` (mapping of counts, or null for
no check) and `prompts` (list of templates).
"""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tvts.config import Benchmark, UserError
from tvts.evaluate.benchmarks.items import Item, Items, check

__all__ = ["Item", "Items", "adapters", "load", "survey"]

COMMON_OPTIONS = {"expected", "prompts"}


def adapters() -> list[str]:
    """Names that `benchmarks.<name>.adapter` may take."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "items")


def load(benchmark: Benchmark) -> Items:
    """Read a benchmark's annotations and check them.

    Counts are checked against `options.expected`, else against the sizes of the real set (eval-protocol invariants:
    1,000 pairs of MSR-VTT and LSMDC, 51 / 101 / 400 classes, 174 options). Raises UserError in one line for a missing
    or wrong file or count.
    """
    adapter = _adapter(benchmark)
    known = COMMON_OPTIONS | set(getattr(adapter, "OPTIONS", ()))
    for option in benchmark.options:
        if option not in known:
            raise UserError(
                f"benchmark option {option!r}: unknown to adapter {benchmark.adapter}; known: {', '.join(sorted(known))}"
            )
    items = _read(adapter, benchmark)
    if "prompts" in benchmark.options:
        items = items.with_prompts(benchmark.options["prompts"])
    expected = benchmark.options.get("expected", getattr(adapter, "EXPECTED", None))
    check(items, benchmark, expected or {})
    return items


def survey(benchmarks: Mapping[str, Benchmark]) -> list[dict[str, Any]]:
    """What is on disk of each benchmark: rows of {benchmark, adapter, state, items, videos, message}.

    `state`: `ready` (all videos there), `incomplete` (some), `missing` (annotations or all videos absent or wrong;
    `message` says what).
    """
    return [_look(name, benchmark) for name, benchmark in benchmarks.items()]


def _look(name: str, benchmark: Benchmark) -> dict[str, Any]:
    row: dict[str, Any] = {"benchmark": name, "adapter": benchmark.adapter, "items": 0, "videos": 0}
    try:
        items = load(benchmark)
    except UserError as error:
        return row | {"state": "missing", "message": str(error)}
    wanted = [item.video for item in (*items.test, *items.train)]
    found = sum(video.is_file() for video in wanted)
    state = "ready" if found == len(wanted) else "incomplete" if found else "missing"
    message = "" if found == len(wanted) else f"{len(wanted) - found} of {len(wanted)} videos not in {benchmark.videos}"
    return row | {"state": state, "items": len(items.test), "videos": found, "message": message}


def _read(adapter: ModuleType, benchmark: Benchmark) -> Items:
    """Annotations come from elsewhere: a field that is absent or of another type is a wrong file, not a crash."""
    try:
        items: Items = adapter.read(benchmark)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{benchmark.adapter} {benchmark.annotations}: not in a format this adapter knows "
            f"({type(error).__name__}: {error}); the formats are at the top of {Path(str(adapter.__file__)).name}"
        ) from error
    return items


def _adapter(benchmark: Benchmark) -> ModuleType:
    if benchmark.adapter not in adapters():
        raise UserError(f"benchmark adapter {benchmark.adapter!r}: unknown; known: {', '.join(adapters())}")
    return importlib.import_module(f"{__name__}.{benchmark.adapter}")
