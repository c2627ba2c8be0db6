import numpy as np
import pytest

from tf_lottery.experiments import text


def test_windows_predict_the_next_character():
    x, y = text.windows("abcabcab", vocabulary="abc", length=3)
    np.testing.assert_array_equal(x, [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(y, [[1, 2, 0], [1, 2, 0]])
    assert x.dtype == y.dtype == "int32"


def test_the_last_window_needs_a_character_behind_it():
    assert text.windows("abcabc", "abc", 3)[0].tolist() == [[0, 1, 2]]
    assert len(text.windows("abcabca", "abc", 3)[0]) == 2


def test_vocabulary_is_sorted():
    assert text.vocabulary_of("to be\nor not") == "\n benort"


def test_unknown_character():
    with pytest.raises(ValueError, match=r"`text` .* of the vocabulary. Received: \['x', 'z'\]"):
        text.windows("abzx", "ab", 2)


def test_short_text():
    with pytest.raises(ValueError, match="`text` must have more than 4 characters. Received: 4"):
        text.windows("abab", "ab", 4)
