"""The benchmark of retrieval scoring scores what it says."""

import pytest
from typer.testing import CliRunner

from tvts.bench import retrieval
from tvts.bench.retrieval import bench_retrieval
from tvts.cli import app


def test_it_times_a_real_scoring() -> None:
    found = bench_retrieval(items=300, width=16, threads=1, device="cpu")
    assert found["seconds"] > 0
    assert 0.05 < found["peak_gib"] < 20
    assert 5 < found["t2v_R@1"] < 100  # texts are their videos and noise


def test_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    found = {"seconds": 1.25, "peak_gib": 0.5}
    monkeypatch.setattr(retrieval, "bench_retrieval", lambda *settings: asked.append(settings) or found)
    printed = CliRunner().invoke(app, ["bench", "retrieval", "--items", "40", "--threads", "2"])
    assert asked == [(40, 512, 2, "auto")]
    assert "40 x 40, width 512: 1.2 s, peak 0.50 GiB" in printed.output
