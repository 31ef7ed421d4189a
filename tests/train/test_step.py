"""Gradients of a batch in parts are those of the whole batch."""

import contextlib

import pytest
import torch

from tvts.config.schema import Objective
from tvts.model import TVTSConfig, TVTSModel, set_trainable
from tvts.train.inputs import Inputs
from tvts.train.step import backward

TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture
def model() -> TVTSModel:
    config = TVTSConfig(
        text_config=TOWER | {"vocab_size": 50, "eos_token_id": 49},
        vision_config=TOWER | {"image_size": 32, "patch_size": 16},
        projection_dim=32,
        num_frames=3,
        temporal_attention_init="random",
    )
    torch.manual_seed(0)
    model = TVTSModel(config)
    set_trainable(model, 1)
    return model.double()


def batch(clips: int, mask: bool, transcripts: int = 4) -> Inputs:
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 48, (clips, transcripts, 6), generator=random)
    ids[..., -1] = 49
    return Inputs(
        video=torch.randn(clips, 3, 3, 32, 32, generator=random, dtype=torch.float64),
        keep_indices=torch.rand(clips, 4, generator=random).argsort(1)[:, :2] if mask else None,
        input_ids=ids,
        positions=torch.rand(clips, transcripts, generator=random).argsort(1),
    )


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_parts_add_up_to_the_whole(model: TVTSModel, parts: int, mask: bool) -> None:
    objective, clips = Objective(contrastive_weight=0.7), batch(6, mask)
    whole = backward(model, clips, objective, 1, contextlib.nullcontext)
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    losses = backward(model, clips, objective, parts, contextlib.nullcontext)
    for name in ("loss", "contrastive", "sorting"):
        assert losses[name].item() == pytest.approx(whole[name].item(), rel=1e-6)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_parts_of_captions_have_nothing_to_sort(model: TVTSModel) -> None:
    losses = backward(model, batch(4, False, transcripts=1), Objective(), 2, contextlib.nullcontext)
    assert losses["sorting"] == 0
    assert model.sorter.head.weight.grad is None
