"""Labels that are names."""

import numpy as np


def numbered(labels, classes=None):
    """Returns labels as numbers, and the names of the classes.

    Args:
        labels: Array of numbers or strings. Strings that are all numbers are read as such.
        classes: Tuple of the names in the order of the class numbers. Defaults to `None`: the
            names that are found, sorted.

    Returns:
        Tuple of an array of numbers and a tuple of names, which is `None` for numbers.

    Raises:
        ValueError: If a label is none of the classes.

    Example:

    >>> numbered(np.array(["dog", "cat", "dog"]))
    (array([1, 0, 1], dtype=int32), ('cat', 'dog'))
    >>> numbered(np.array(["2", "0"]))
    (array([2, 0]), None)
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "USO":
        return labels, None
    if classes is None:
        try:
            values = labels.astype("float64")
        except (TypeError, ValueError):
            pass
        else:
            are_whole = np.isfinite(values).all() and (values == np.rint(values)).all()
            return (values.astype("int64") if are_whole else values), None
    texts = np.array(
        [text.decode() if isinstance(text, bytes) else str(text) for text in labels.flat]
    )
    found = tuple(np.unique(texts).tolist())
    classes = found if classes is None else classes
    if unknown := [name for name in found if name not in classes]:
        raise ValueError(
            f"DATA must have the classes {', '.join(map(repr, classes[:20]))}, those of the "
            f"training data. Received: {', '.join(map(repr, unknown[:5]))}"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    y = np.array([numbers[text] for text in texts], "int32").reshape(labels.shape)
    return y, tuple(classes)
