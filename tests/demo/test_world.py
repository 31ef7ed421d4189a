"""What is seen and said in the demo."""

import numpy as np
import pytest
from world import MOTIONS, SHAPES, SPOKEN_SUBJECTS, SUBJECTS, Subject, describe, draw, is_spoken, play

GREY = np.array([50.0, 50.0, 50.0])
REVERSED = {"left": "right", "right": "left", "up": "down", "down": "up", "grow": "shrink", "shrink": "grow"}


def centre_and_area(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per frame the mean x, mean y and area of what differs from the background, in pixels."""
    shown = (abs(frames.astype(int) - 50).sum(-1) > 60).astype(float)
    area = shown.sum((1, 2))
    steps = np.arange(frames.shape[1])
    return (shown.sum(1) @ steps) / area, (shown.sum(2) @ steps) / area, area


@pytest.mark.parametrize("motion", MOTIONS)
def test_motion_goes_where_its_name_says(motion):
    frames = play(96, Subject("red", "circle"), motion, np.linspace(0, 1, 9), np.random.default_rng(3), GREY)
    x, y, area = centre_and_area(frames)
    change = {"right": x, "left": -x, "down": y, "up": -y, "grow": area, "shrink": -area}
    for name, values in change.items():
        rises = np.diff(values) > 0
        if name == motion:
            assert rises.all()
        elif name != REVERSED[motion]:
            assert not rises.all()


@pytest.mark.parametrize("motion", MOTIONS)
def test_no_frame_tells_a_motion_from_its_reverse(motion):
    progress = np.linspace(0, 1, 5)
    subject = Subject("blue", "triangle")
    forward = play(48, subject, motion, progress, np.random.default_rng(7), GREY)
    backward = play(48, subject, REVERSED[motion], progress, np.random.default_rng(7), GREY)
    np.testing.assert_array_equal(forward, backward[::-1])


def test_shapes_look_different():
    drawn = [draw(48, Subject("white", shape), [0.5], [0.5], [0.2], GREY)[0].astype(int) for shape in SHAPES]
    for index, one in enumerate(drawn):
        for other in drawn[:index]:
            assert (abs(one - other).max(-1) > 60).sum() > 20


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="unknown shape 'cube'"):
        draw(8, Subject("red", "cube"), [0.5], [0.5], [0.2], GREY)


def test_half_of_colours_and_shapes_is_never_spoken():
    assert {subject for subject in SUBJECTS if is_spoken(subject)} == set(SPOKEN_SUBJECTS)
    assert len(SUBJECTS) == 4 * len(SPOKEN_SUBJECTS)


def test_description_has_the_right_article():
    assert describe(Subject("red", "ring"), "left") == "a red ring moving left"
    assert describe(Subject("orange", "moon"), "shrink") == "an orange moon getting small"
