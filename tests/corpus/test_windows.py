"""Windows are usable where every segment is spoken in; what is drawn depends on the arguments alone."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from tvts.config.schema import Dataset
from tvts.corpus.transcripts import word
from tvts.corpus.windows import (
    draw_window,
    fixed_windows,
    segment_lengths,
    segment_transcripts,
    segments,
    shuffling,
    usable_windows,
    window_seconds,
)

PAPER = Dataset(corpus="c")
SHORT = Dataset(corpus="c", segments=2, segment_seconds=[2.0, 2.0], gap_seconds=1.0, stride_seconds=0.5, min_words=2)


def steady(seconds: float, step: float = 0.4) -> list[dict]:
    return [word(f"w{i}", i * step, i * step + 0.3) for i in range(int(seconds / step))]


def test_the_papers_window_is_four_segments_with_gaps():
    assert segments((1.0, 4.0), PAPER) == [(1.0, 5.0), (6.0, 10.0), (11.0, 15.0), (16.0, 20.0)]
    assert window_seconds(4.0, PAPER) == 19.0
    assert segment_lengths(PAPER) == [3.0, 3.5, 4.0, 4.5, 5.0]


def test_all_windows_of_steady_speech_are_usable():
    found = usable_windows(steady(25.0), 25.0, PAPER)
    assert Counter(length for _, length in found) == {3.0: 21, 3.5: 17, 4.0: 13, 4.5: 9, 5.0: 5}
    assert all(start + window_seconds(length, PAPER) <= 25.0 for start, length in found)
    assert found == sorted(found)


def test_a_clip_shorter_than_a_window_has_none():
    assert usable_windows(steady(14.9), 14.9, PAPER) == []
    assert usable_windows([], 30.0, PAPER) == []


def test_windows_keep_their_distance_from_the_clips_ends():
    margin = PAPER.model_copy(update={"margin_seconds": 1.0})
    near, far = usable_windows(steady(25.0), 25.0, PAPER), usable_windows(steady(25.0), 25.0, margin)
    assert set(far) == {
        (start, length) for start, length in near if 1.0 <= start <= 24.0 - window_seconds(length, PAPER)
    }
    assert far


def test_a_silent_stretch_makes_exactly_the_windows_over_it_unusable():
    words = [entry for entry in steady(12.0) if not 5.0 <= entry["start"] < 8.0]
    found = set(usable_windows(words, 12.0, SHORT))
    for start in np.arange(0, 7.5, 0.5).tolist():
        inside = [
            sum(begin < entry["start"] and entry["end"] < end for entry in words)
            for begin, end in segments((start, 2.0), SHORT)
        ]
        assert ((start, 2.0) in found) == (min(inside) >= 2), start
    assert 0 < len(found) < 15


def test_words_on_or_over_an_edge_belong_to_no_segment():
    words = [
        word("edge", 0.0, 0.5),
        word("in", 0.5, 1.0),
        word("side", 1.0, 1.9),
        word("over", 1.9, 2.1),
        word("gap", 2.2, 2.8),
    ]
    words += [word("next", 3.1, 3.5), word("one", 3.6, 4.0), word("touching", 4.5, 5.0)]
    assert segment_transcripts(words, 0.0, 2.0, SHORT) == ["in side", "next one"]


def test_every_usable_window_has_its_words_after_storage_as_float32():
    dataset = Dataset(
        corpus="c", segments=3, segment_seconds=[1.1, 1.7], gap_seconds=0.3, stride_seconds=0.1, min_words=2
    )
    generator = np.random.default_rng(0)
    starts = np.sort(generator.uniform(0, 20, 60)).astype(np.float32)
    words = [
        word("w", float(start), float(end))
        for start, end in zip(starts, np.append(starts[1:], np.float32(20)), strict=True)
    ]
    found = usable_windows(words, 20.0, dataset)
    assert len(found) > 100
    for start, length in found:
        assert (np.float32(start), np.float32(length)) == (start, length)
        assert all(len(text.split()) >= 2 for text in segment_transcripts(words, start, length, dataset))


def test_a_shuffling_is_a_pure_function_and_uniform():
    assert shuffling(3, "key", 7, segments=4) == shuffling(3, "key", 7, segments=4)
    counts = Counter(tuple(shuffling(0, f"clip{i}", segments=3)) for i in range(6000))
    assert set(counts) == set(permutations(range(3)))
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert chi_squared < 20.5  # p = 0.001 with 5 degrees of freedom


@pytest.mark.parametrize(("one", "other"), [((0, "a"), (1, "a")), ((0, "a"), (0, "b")), ((0, "a", 1), (0, "a", 2))])
def test_seed_key_and_epoch_all_change_the_shuffling(one, other):
    assert shuffling(*one, segments=16) != shuffling(*other, segments=16)


def test_sixteen_segments_can_be_shuffled():
    assert sorted(shuffling(0, "k", segments=16)) == list(range(16))


def test_windows_are_drawn_by_length_first_as_in_the_official_loader():
    windows = usable_windows(steady(25.0), 25.0, PAPER)
    drawn = Counter(draw_window(windows, 0, f"clip{i}")[1] for i in range(5000))
    assert set(drawn) == {3.0, 3.5, 4.0, 4.5, 5.0}
    assert all(900 < count < 1100 for count in drawn.values())


def test_fixed_windows_are_different_usable_and_as_many_as_asked():
    dataset = PAPER.model_copy(update={"validation_windows": 5})
    windows = usable_windows(steady(25.0), 25.0, dataset)
    fixed = fixed_windows(windows, "key", dataset)
    assert len({(start, length) for start, length, _ in fixed}) == 5
    assert all((start, length) in windows and sorted(order) == [0, 1, 2, 3] for start, length, order in fixed)
    assert fixed == fixed_windows(windows, "key", dataset)
    assert fixed != fixed_windows(windows, "other", dataset)
    assert len(fixed_windows(windows[:2], "key", dataset)) == 2
