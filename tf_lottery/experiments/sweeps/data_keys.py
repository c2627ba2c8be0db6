"""The keys of a sweep that name its data."""

import os

DATA = {
    "dataset": str,
    "data": str,
    "validation_data": str,
    "test_data": str,
    "label_column": str,
    "pixel_range": tuple,
    "import": str,
    "data_dir": str,
    "download": bool,
    "image_size": int,
    "normalize": bool,
}
# The keys that need the user's own `data`.
_OWN = ("validation_data", "test_data", "label_column", "pixel_range")


def data_arguments(given):
    """Returns the keys that name the data of a run, checked, with absolute paths.

    Args:
        given: Dict of the keys in `DATA` that a sweep gives.

    Raises:
        ValueError: If keys exclude each other.

    Example:

    >>> data_arguments({"normalize": True})
    {'dataset': 'digits', 'normalize': True}
    """
    if "data" in given and "dataset" in given:
        raise ValueError(
            "Keys `data` and `dataset` of a sweep exclude each other. "
            f"Received: data={given['data']!r}, dataset={given['dataset']!r}"
        )
    if "data" not in given:
        if unused := [key for key in _OWN if key in given]:
            raise ValueError(
                f"Key `{unused[0]}` of a sweep must come with `data`. "
                f"Received: {unused[0]}={given[unused[0]]!r}"
            )
        given = {"dataset": "digits", **given}
    found = dict(given)
    # Processes on other machines have another working folder.
    if "pixel_range" in found:
        found["pixel_range"] = _range(found["pixel_range"])
    for key in ("data", "validation_data", "test_data", "data_dir"):
        path = os.path.abspath(os.path.expanduser(found.get(key, "")))
        if key in found and (key == "data_dir" or os.path.exists(path)):
            found[key] = path
    return found


def _range(names):
    """Returns two numbers for their texts."""
    try:
        low, high = map(float, names)
    except ValueError:
        raise ValueError(
            "Key `pixel_range` of a sweep must be two numbers separated by a comma. "
            f"Received: pixel_range={','.join(names)}"
        ) from None
    return low, high
