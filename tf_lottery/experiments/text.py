"""Text as integers, cut into windows."""

import numpy as np


def vocabulary_of(text):
    """Returns the distinct characters of a text in sorted order, as one string.

    Args:
        text: String.

    Example:

    >>> vocabulary_of("banana")
    'abn'
    """
    return "".join(sorted(set(text)))


def windows(text, vocabulary, length):
    """Cuts a text into windows of characters, to predict the next one at every position.

    Args:
        text: String. An incomplete window at the end is dropped.
        vocabulary: String, the character that every integer stands for.
        length: Integer > 0, the number of characters in a window.

    Returns:
        Tuple of two `int32` arrays of shape `(windows, length)`: the characters, and the
        next characters.

    Raises:
        ValueError: If a character is not in the vocabulary or the text is too short.

    Example:

    >>> windows("banana", vocabulary="abn", length=3)
    (array([[1, 0, 2]], dtype=int32), array([[0, 2, 0]], dtype=int32))
    """
    numbers = {character: number for number, character in enumerate(vocabulary)}
    unknown = set(text) - set(numbers)
    if unknown:
        raise ValueError(
            f"Argument `text` must have characters of the vocabulary. Received: {sorted(unknown)}"
        )
    count = (len(text) - 1) // length
    if count < 1:
        raise ValueError(
            f"Argument `text` must have more than {length} characters. Received: {len(text)}"
        )
    codes = np.array([numbers[character] for character in text[: count * length + 1]], "int32")
    return codes[:-1].reshape(count, length), codes[1:].reshape(count, length)
