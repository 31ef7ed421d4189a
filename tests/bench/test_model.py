"""The model benchmark: its arithmetic, never its speed."""

import pytest
from torch import nn

from tvts.bench import model as bench
from tvts.model.flops import peak_tflops, training_gflop

SMALL = {
    "text_config": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64},
    "vision_config": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 192,
        "image_size": 32,
        "patch_size": 8,
    },
    "projection_dim": 64,
    "mask_ratio": 0.5,
}


@pytest.fixture
def small_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.SIZES, "small", SMALL)


def test_result_is_consistent_and_printed(small_size: None, capsys: pytest.CaptureFixture[str]) -> None:
    result = bench.bench_model("small", batch=2, frames=3, device="cpu", seconds=0)
    assert result["clips_per_second"] == pytest.approx(2 / result["step_seconds"])
    assert result["ratio"] == pytest.approx(result["explicit_seconds"] / result["step_seconds"])
    assert (result["frames"], result["mask_ratio"], result["mfu"]) == (3, 0.5, None)
    bench.print_bench(result)
    printed = capsys.readouterr().out
    assert "clips/s" in printed and "peak of this device unknown" in printed and "mask ratio 0.5" in printed


def test_bf16_runs(small_size: None) -> None:
    assert (
        bench.bench_model("small", batch=1, frames=2, device="cpu", precision="bf16", seconds=0)["precision"] == "bf16"
    )


def test_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size: got 'l14'; allowed: b32, b16, h14"):
        bench.bench_model("l14")


def test_flops_are_those_of_the_linear_layers_and_more() -> None:
    """Vision: every token passes 16 width^2 weights per block; 2 FLOPs each forward, twice that backward."""
    config = bench.TVTSConfig(num_frames=12, **SMALL)
    tokens = 1 + 12 * 8
    video = 3 * 2 * 2 * 16 * 48**2 * tokens
    gflop = training_gflop(config, bench.frozen_blocks(config))
    assert video < gflop * 1e9 < 3 * video
    assert config._attn_implementation != "eager", "the model that trains keeps its fast attention"


@pytest.mark.parametrize(("size", "forward"), [("b32", 138), ("b16", 274), ("h14", 1550)])
def test_flops_agree_with_the_papers_sizes(size: str, forward: int) -> None:
    """GFLOP of the video tower's forward pass, computed by hand for 12 frames; backward doubles it, text and sorter add."""
    config = bench.TVTSConfig(**bench.SIZES[size])
    assert 1.0 < training_gflop(config, bench.frozen_blocks(config)) / (3 * forward) < 1.25


def test_mfu_uses_the_dense_peak_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert peak_tflops("bf16") == 989.4
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Some other card")
    assert peak_tflops("bf16") is None


def test_sizes_are_the_papers() -> None:
    millions = {}
    for size, settings in bench.SIZES.items():
        with bench.torch.device("meta"):
            model: nn.Module = bench.TVTSModel(bench.TVTSConfig(**settings))
        millions[size] = round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1)
    assert millions == {"b32": 186.0, "b16": 184.3, "h14": 1221.3}
