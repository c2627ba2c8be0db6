"""Reads examples from a table of comma-separated values."""

import csv

import numpy as np

from tf_lottery.checks import nearest
from tf_lottery.experiments.data.class_names import numbered

_DEFAULT = "label"


def read_csv(path, label_column=None, needs_labels=True, classes=None, width=None):
    """Returns inputs, labels and class names of a table.

    Columns are separated by commas, semicolons or tabs. All but the labels are inputs, in their
    order. Labels that are no numbers become class numbers, in sorted order.

    Args:
        path: The file. Its first line may have the names of the columns.
        label_column: String. Defaults to `None`: the column named `label`, else the last one, which
            is an input if no labels are needed and the model has as many.
        needs_labels: Whether there must be labels. Defaults to `True`.
        classes: Tuple of strings, the names of the classes. Defaults to `None`: those found.
        width: Integer, the number of columns that the model takes. Defaults to `None`: unknown.

    Returns:
        Tuple of an array of shape `(rows, columns)`, an array of labels or `None`, and a tuple
        of class names or `None`.

    Raises:
        OSError: If there is no such file.
        ValueError: If the table has no rows, or text or nothing in an input.

    Example:

    >>> with open("pets.csv", "w") as file:
    ...     size = file.write("weight,age,label\\n4.5,3,cat\\n12,5,dog\\n")
    >>> x, y, classes = read_csv("pets.csv")
    >>> x.tolist(), y.tolist(), classes
    ([[4.5, 3.0], [12.0, 5.0]], [0, 1], ('cat', 'dog'))
    """
    names, rows = _rows(path, (_DEFAULT, label_column))
    has_labels = needs_labels or width == len(names) - 1
    chosen = _column_of_labels(path, names, label_column, has_labels)
    inputs = [i for i in range(len(names)) if i != chosen]
    if not inputs:
        raise ValueError(
            "DATA must have columns of inputs beside the labels. "
            f"Received: {str(path)!r} with one column, {names[0]!r}"
        )
    x = _numbers(path, [[row[i] for i in inputs] for row in rows], [names[i] for i in inputs])
    if chosen is None:
        return x, None, None
    labels = np.array([row[chosen].strip() for row in rows])
    if (labels == "").any():
        raise ValueError(
            "DATA must have a label in every row. "
            f"Received: {str(path)!r} without one in row {int((labels == '').argmax()) + 1}"
        )
    return x, *numbered(labels, classes)


def _rows(path, known):
    """Returns the names of the columns, and the rows as lists of strings.

    Args:
        path: The file.
        known: Tuple of names; a line with one of them has the names of the columns, also if some
            are numbers.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            delimiter = max(",;\t", key=file.readline().count)
            file.seek(0)
            rows = [row for row in csv.reader(file, delimiter=delimiter) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"DATA must be a table in UTF-8. Received: {str(path)!r} ({error})"
        ) from None
    first = [text.strip() for text in rows[0]] if rows else []
    has_names = bool(first) and (
        _are_names(first) or any(name in known or name.lower() in known for name in first)
    )
    names = first if has_names else []
    if "" in names:
        raise ValueError(
            "DATA must have a name for every column or for none; pandas writes its index as a "
            f"column without a name unless `index=False`. Received: {str(path)!r} without one in "
            f"column {names.index('') + 1}"
        )
    rows = rows[has_names:]
    if not rows:
        raise ValueError(f"DATA must have rows of examples. Received: {str(path)!r} with none")
    names = names or [f"column {i + 1}" for i in range(len(rows[0]))]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(
                f"DATA must have {len(names)} columns in every row. "
                f"Received: {str(path)!r} with {len(row)} in row {number}"
            )
    return names, rows


def _are_names(texts):
    """Returns whether no text is a number, or numbers are those that pandas gives to columns."""
    numbers = list(filter(_is_number, texts))
    is_counted = numbers == list(map(str, range(len(numbers))))
    return not numbers or (3 <= len(numbers) < len(texts) and is_counted)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _column_of_labels(path, names, asked, has_labels):
    if asked is None:
        lower = [name.lower() for name in names]
        if _DEFAULT in lower:
            return lower.index(_DEFAULT)
        return len(names) - 1 if has_labels else None
    if asked not in names:
        near = nearest(asked, names)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"--label-column must be one of the columns of {str(path)!r}: {', '.join(names[:20])}. "
            f"Received: {asked!r}{meant}"
        )
    return names.index(asked)


def _numbers(path, rows, names):
    try:
        return np.array(rows, "float32")
    except ValueError:
        pass
    bad = {}
    for number, row in enumerate(rows, 1):
        for name, text in zip(names, row, strict=True):
            if name not in bad and not _is_number(text):
                bad[name] = (
                    f"{name!r} ({text!r} in row {number})"
                    if text
                    else f"{name!r} (empty in row {number})"
                )
    listed = ", ".join(list(bad.values())[:5])
    raise ValueError(
        "DATA must have a number in every column but that of the labels; drop other columns, or "
        f"make numbers of them. Received: {str(path)!r} with {listed}"
    )
