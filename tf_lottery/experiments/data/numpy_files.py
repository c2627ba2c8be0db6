"""Reads examples from NumPy's files."""

import zipfile

import numpy as np

_EXPECTED = "DATA must be a .npy or .npz file of numbers."


def read_numpy(path):
    """Returns inputs, labels and sample weights of a NumPy file.

    Args:
        path: The `.npy` file of inputs; or the `.npz` file with `x`, and also `y`, whose labels may
            be names, and `sample_weight`, or else with an array for each input of the model.

    Returns:
        Tuple `(x, y, sample_weight)`; what the file does not have is `None`, and several inputs
        are a dict.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no NumPy file of numbers.

    Example:

    >>> np.save("inputs.npy", np.ones((3, 2)))
    >>> read_numpy("inputs.npy")[0].shape
    (3, 2)
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            found = {"x": found}
        else:
            with found:
                found = {name: found[name] for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{_EXPECTED} Received: {str(path)!r} ({error})") from error
    labels, weights = found.pop("y", None), found.pop("sample_weight", None)
    arrays = {**found, **({} if weights is None else {"sample_weight": weights})}
    if not found or not all(
        isinstance(x, np.ndarray) and x.dtype.kind in "biuf" for x in arrays.values()
    ):
        kinds = {name: getattr(x, "dtype", "no array") for name, x in arrays.items()}
        listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "no inputs"
        raise ValueError(f"{_EXPECTED} Received: {str(path)!r} with {listed}")
    if labels is not None and set(found) != {"x"}:
        raise ValueError(
            "DATA must be a .npz file with the arrays x and y, or with an array for each input. "
            f"Received: {str(path)!r} with {sorted([*found, 'y'])}"
        )
    return (found if len(found) > 1 else next(iter(found.values()))), labels, weights
