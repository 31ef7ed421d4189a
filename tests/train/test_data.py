"""Samples depend on (seed, pass, clip) alone; batches on the step alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tvts.config import Run, UserError
from tvts.model import TVTSConfig
from tvts.train.data import Clips, FixedWindows, GlobalBatches, TrainingSet, nearest
from tvts.train.rows import Source
from tvts.train.stage import source as source_of

TOY = TVTSConfig(vision_config={"image_size": 32, "patch_size": 16})


@pytest.fixture
def source(dataset_card: Path) -> Source:
    return source_of(dataset_card)


@pytest.fixture
def training_set(source: Source, make_run: Callable[..., Run]) -> TrainingSet:
    return TrainingSet(source, make_run(), TOY, reader="pyav")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


def test_a_sample_is_a_function_of_seed_pass_and_clip(
    source: Source, training_set: TrainingSet, make_run: Callable[..., Run]
) -> None:
    again = TrainingSet(source, make_run(), TOY, "pyav")
    reseeded = TrainingSet(source, make_run().model_copy(update={"seed": 1}), TOY, "pyav")
    for row in range(len(training_set)):
        assert same(training_set[3, row], again[3, row])
        assert not same(training_set[3, row], training_set[4, row])
        assert not same(training_set[3, row], reseeded[3, row])


def test_both_readers_and_the_cache_give_the_same_sample(
    source: Source, training_set: TrainingSet, make_run: Callable[..., Run]
) -> None:
    others = [
        TrainingSet(source, make_run(), TOY, "decord"),
        TrainingSet(source, make_run(data={"cache_gb": 0.1}), TOY, "pyav"),
    ]
    assert all(same(training_set[0, row], other[0, row]) for other in others for row in range(len(training_set)))


def test_shown_transcripts_and_positions_agree(training_set: TrainingSet) -> None:
    turns = [training_set[turn, 0] for turn in range(20)]
    assert {tuple(sample["positions"].tolist()) for sample in turns} == {(0, 1), (1, 0)}
    spoken = ["now", "it", "is", "dark", "then", "it", "gets", "light", "and", "so", "on"] * 2
    for sample in turns:
        in_time = [sample["transcripts"][sample["positions"].tolist().index(place)].split() for place in range(2)]
        starts = [next(i for i in range(len(spoken)) if spoken[i : i + len(text)] == text) for text in in_time]
        assert starts[0] != starts[1]
        assert sample["keep"].tolist() == sorted(set(sample["keep"].tolist()))
        assert len(sample["keep"]) == 2


def test_frames_run_forward_in_time(training_set: TrainingSet) -> None:
    for turn in range(5):
        light = training_set[turn, 1]["frames"].float().amax(1).mean((1, 2))
        assert light.shape == (4,)
        assert (light.diff() > 0).all()


def test_batches_do_not_depend_on_where_training_starts_or_on_world_size() -> None:
    whole = list(GlobalBatches(rows=7, batch=4, steps=range(0, 10), seed=3, rank=0, world=1))
    assert list(GlobalBatches(7, 4, range(6, 10), 3, 0, 1)) == whole[6:]
    halves = zip(GlobalBatches(7, 4, range(0, 10), 3, 0, 2), GlobalBatches(7, 4, range(0, 10), 3, 1, 2), strict=True)
    assert [first + second for first, second in halves] == whole
    seen = [address for batch in whole for address in batch]
    assert [turn for turn, _ in seen[:7]] == [0] * 7
    assert sorted(row for _, row in seen[:7]) == list(range(7))


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="take a multiple of 3"):
        GlobalBatches(7, 4, range(2), 0, 0, 3)


def test_fixed_windows_are_fixed(source: Source) -> None:
    fixed = FixedWindows(source, frames=4, image_size=32, reader="pyav")
    assert len(fixed) == 4
    assert fixed[0]["positions"].tolist() == [1, 0]
    assert same(fixed[2], FixedWindows(source, 4, 32, "decord")[2])


def test_an_unreadable_clip_is_replaced_and_counted(
    source: Source, training_set: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Clips._member
    bad = training_set.rows[2]["key"]
    monkeypatch.setattr(Clips, "_member", lambda self, row: b"not a video" if row["key"] == bad else read(self, row))
    sample = training_set[0, 2]
    assert sample["replaced"] == 1
    assert np.array_equal(sample["frames"], training_set[0, 3]["frames"])


def test_keyframes_alone_are_read_when_asked_for(
    source: Source, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read = Clips.frames
    monkeypatch.setattr(Clips, "frames", lambda self, row, numbers: asked.extend(numbers) or read(self, row, numbers))
    TrainingSet(source, make_run(data={"frame_times": "keyframe"}), TOY, "pyav")[0, 1]
    assert len(asked) == 4
    assert all(number % 4 == 0 for number in asked)
    assert nearest([0, 1, 2, 3, 30], [0, 4, 28]) == [0, 0, 0, 4, 28]
