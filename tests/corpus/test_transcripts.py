"""Times are repaired, declared rules fire and are named, words survive otherwise."""

import pytest

from tvts.config.schema import Cleaning
from tvts.corpus.transcripts import clean, edit_distances, longest_run, repair_times, word, word_error_rate


def said(text: str, start: float = 0.5, step: float = 0.5, probability: float = 1.0) -> list[dict]:
    return [word(token, start + i * step, start + (i + 1) * step, probability) for i, token in enumerate(text.split())]


GOOD = said("and now we slowly add the onions and stir them well", step=0.4)


def test_good_words_pass_untouched():
    assert clean(GOOD, 6.0, Cleaning()) == (GOOD, [])


def test_times_outside_the_clip_are_cut_and_words_after_it_dropped():
    words, fired = repair_times([word("a", -1.0, 0.5), word("b", 4.0, 7.0), word("c", 5.0, 5.5)], 5.0)
    assert words == [word("a", 0.0, 0.5), word("b", 4.0, 5.0)]
    assert fired == ["outside"]


def test_times_become_monotone_in_the_order_of_the_words():
    words, fired = repair_times([word("a", 2.0, 3.0), word("b", 1.0, 1.5), word("c", 2.5, 4.0)], 5.0)
    assert [entry["word"] for entry in words] == ["a", "b", "c"]
    assert [(entry["start"], entry["end"]) for entry in words] == [(2.0, 2.0), (2.0, 2.0), (2.5, 4.0)]
    assert fired == ["overlapping"]


def test_repairing_twice_changes_nothing():
    crooked = [word("a", 2.0, 9.0), word("  ", 2.1, 2.2), word("b", 1.0, 1.5), word(" c ", 30.0, 31.0)]
    once, _ = repair_times(crooked, 8.0)
    assert repair_times(once, 8.0) == (once, [])


def test_improbable_words_are_dropped_alone():
    words = [*GOOD[:5], word("mumble", 2.5, 2.6, 0.1), *GOOD[6:]]
    kept, fired = clean(words, 6.0, Cleaning(min_probability=0.2))
    assert fired == ["improbable"]
    assert [entry["word"] for entry in kept] == [entry["word"] for entry in words if entry["word"] != "mumble"]


def test_long_words_are_cut_at_their_end():
    kept, fired = clean([*GOOD, word("hmm", 5.0, 9.5)], 10.0, Cleaning(max_word_seconds=2.0))
    assert fired == ["long_word"]
    assert kept[-1] == word("hmm", 5.0, 7.0)


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("", 0),
        ("a", 1),
        ("a b c", 1),
        ("no no no", 3),
        ("a b a b a b c", 3),
        ("x thank you thank you", 2),
        ("a b c d a b c", 1),
    ],
)
def test_longest_run(text, run):
    assert longest_run(text.split()) == run


def test_a_repeated_phrase_drops_the_clip_but_a_speakers_repeat_does_not():
    loop = said("thank you for watching " * 5, step=0.3)
    assert clean(loop, 8.0, Cleaning(max_repeats=4)) == ([], ["repeats"])
    emphatic = said("this is very very very good you see", step=0.4)
    assert clean(emphatic, 6.0, Cleaning(max_repeats=4)) == (emphatic, [])


def test_punctuation_and_case_do_not_hide_a_repeat():
    assert clean(said("No, no! no. NO no"), 6.0, Cleaning(max_repeats=4))[1] == ["repeats"]


@pytest.mark.parametrize(("duration", "rule"), [(120.0, "sparse"), (5.0, "dense")])
def test_speech_rate_drops_the_clip(duration, rule):
    cleaning = Cleaning(min_words_per_minute=10.0, max_words_per_minute=120.0)
    assert clean(GOOD, duration, cleaning) == ([], [rule])


def test_no_words_at_all_are_sparse():
    assert clean([], 10.0, Cleaning()) == ([], ["sparse"])


def test_edit_distances_of_letters():
    letters = [[ord(letter) for letter in text] for text in ("kitten", "sitting", "", "mitten", "kittens")]
    assert edit_distances(letters[0], letters).tolist() == [0, 3, 6, 1, 1]
    assert edit_distances([], letters).tolist() == [6, 7, 0, 6, 7]


def test_word_error_rate_counts_substitutions_insertions_and_deletions():
    assert word_error_rate("The red circle, moves!", "the red circle moves") == 0
    assert word_error_rate("the red circle moves", "the bed circle moves up") == pytest.approx(2 / 4)
    assert word_error_rate("the red circle moves", "") == 1
    with pytest.raises(ValueError, match="no words"):
        word_error_rate("...", "something")
