"""The training benchmark measures the real step, on made batches and on real shards; never its speed is tested."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.bench.test_model import SMALL
from tests.train.processes import write_config

from tvts.bench import train as bench
from tvts.config import Run

CPU = torch.device("cpu")


def test_made_batches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(bench.SIZES, "small", SMALL)
    result = bench.bench_synthetic("small", 2, 2, "bf16", False, CPU)
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert (result["batch"], result["steps"], result["mfu"], result["precision"]) == (2, 2, None, "bf16")
    bench.print_bench(result)
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("clips/s", "forward", "backward", "optimiser", "data", "MFU", "peak memory")
    )


def test_the_run_on_its_shards(tmp_path: Path, make_run: Callable[..., Run], dataset_card: Path) -> None:
    run = make_run(data={"datasets": ["toy", "toy"], "mixing": "joint"})
    result = bench.bench_run(write_config(tmp_path, run), [dataset_card, dataset_card], "pyav", 3, CPU)
    assert (result["batch"], result["steps"]) == (8, 3)
    assert all(share > 0 for share in result["shares"].values())


def test_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size: got 'l14'; allowed: b32, b16, h14"):
        bench.bench_synthetic("l14", 1, 1, "fp32", False, CPU)
