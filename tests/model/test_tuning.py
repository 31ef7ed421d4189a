"""What learns, what stays, and at which rate."""

import copy
import json

import pytest
import torch
from tests.model.conftest import GOLDEN, make_batch, make_model

from tvts.model import TVTSModel, from_official, group_table, parameter_groups, set_trainable
from tvts.model.convert import _pairs
from tvts.objectives import tvts_loss

POSITIONS = torch.arange(4).expand(3, -1)


def changed_by_training(model: TVTSModel, **groups) -> set[str]:
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3, 1e-3, **groups))
    for _ in range(2):
        optimizer.zero_grad()
        tvts_loss(model(**make_batch()), POSITIONS)["loss"].backward()
        optimizer.step()
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


def text_part(key: str) -> str:
    if "layers" in key:
        return "block " + key.split(".")[3]
    return "embeddings" if "embeddings" in key else "final"


@pytest.mark.parametrize(
    ("settings", "learning"),
    [
        ({"frozen_blocks": 0}, {"block 0", "block 1", "block 2", "embeddings", "final"}),
        ({"frozen_blocks": 2}, {"block 2", "embeddings", "final"}),
        ({"frozen_blocks": 3}, {"embeddings", "final"}),
        ({"frozen_blocks": 2, "train_embeddings": False}, {"block 2", "final"}),
        ({"frozen_blocks": 1, "train_final": False}, {"block 1", "block 2", "embeddings"}),
        ({"frozen_blocks": "all"}, set()),
    ],
)
def test_training_changes_what_is_not_frozen_and_nothing_else(settings: dict, learning: set[str]) -> None:
    model = make_model().train()
    set_trainable(model, **settings)
    changed = changed_by_training(model)
    text = {key for key in model.state_dict() if key.startswith("text_")}
    assert changed & text == {key for key in text if text_part(key) in learning}
    assert changed - text == model.state_dict().keys() - text


def test_the_frozen_part_runs_without_gradients() -> None:
    model, reached = make_model().train(), []
    for layer in model.text_model.encoder.layers:
        layer.register_forward_hook(lambda module, inputs, output: reached.append(output.requires_grad))
    set_trainable(model, 2, train_embeddings=False)
    model(**make_batch())
    assert reached == [False, False, True]


def test_thawing_undoes_freezing() -> None:
    model = make_model()
    set_trainable(model, "all")
    set_trainable(model, 0)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("blocks", [-1, 4])
def test_impossible_depths_are_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match=rf"frozen_blocks: got {blocks}; allowed: 0 to 3 \(blocks there are\), or all"):
        set_trainable(make_model(), blocks)


def official_group(name: str) -> str:
    """The rule of the official scripts, on official names (`train_dist_TVTSv2_*.py`)."""
    decay = "no decay" if any(word in name for word in ("bias", "LayerNorm", "ln_", "norm")) else "decay"
    from_clip = not ("timeattn" in name or "ln_3" in name) if "video_model" in name else "text" in name
    part = "clip" if from_clip else "new"
    return f"{part}, {decay}"


@pytest.mark.parametrize(
    ("name", "frozen", "options"), [("TVTSv2_B_16", 9, {}), ("TVTSv2_H_14", 18, {"vision_heads": 16})]
)
def test_groups_are_the_official_ones(name: str, frozen: int, options: dict) -> None:
    shapes = json.loads((GOLDEN / "official_checkpoint_keys.json").read_text())[name]
    model = from_official({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, **options)
    set_trainable(model, frozen)
    groups = parameter_groups(model)
    ours = {parameter: group["name"] for group in groups for parameter in group["names"]}
    for pair in _pairs(model.config):
        block = pair.official.split(".")[2] if pair.official.startswith("text_model.resblocks") else None
        expected = official_group(pair.official) if block is None or int(block) >= frozen else None
        assert {ours.get(part) for part in pair.parts} == {expected}, pair.official
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in groups}
    assert rates == {
        "new, decay": (1e-4, 0.05),
        "new, no decay": (1e-4, 0.0),
        "clip, decay": (1e-7, 0.05),
        "clip, no decay": (1e-7, 0.0),
    }


def test_temporal_embedding_can_join_the_new_parts() -> None:
    key = "vision_model.embeddings.temporal_embedding"
    for choice in ("clip", "new"):
        groups = parameter_groups(make_model(), temporal_embedding_group=choice)
        assert [group["name"] for group in groups if key in group["names"]] == [f"{choice}, decay"]


def test_table_accounts_for_every_parameter() -> None:
    model = make_model()
    set_trainable(model, 2)
    rows = group_table(model, parameter_groups(model))
    assert [row[0] for row in rows] == ["new, decay", "new, no decay", "clip, decay", "clip, no decay", "frozen"]
    assert sum(row[1] for row in rows) == sum(parameter.numel() for parameter in model.parameters())
    assert rows[-1][1] == sum(p.numel() for p in model.text_model.encoder.layers[:2].parameters())
    assert rows[0][2:] == (1e-4, 0.05)
