"""Appends files such as labels to a TFLite file, where TFLite's metadata library has them."""

import io
import os
import pathlib
import zipfile

# A fixed date, so that the same export gives the same bytes.
DATE = (1980, 1, 1, 0, 0, 0)


def read_associated_files(associated_files):
    """Returns a dict of names to bytes.

    Args:
        associated_files: The user's argument: such a dict, a list of paths, or `None`.

    Raises:
        ValueError: If it is none of these, or two files have the same name.
        OSError: If a file cannot be read.
    """
    if associated_files is None:
        return {}
    if isinstance(associated_files, dict):
        contents = associated_files
    elif isinstance(associated_files, (list, tuple)) and all(
        isinstance(path, (str, os.PathLike)) for path in associated_files
    ):
        paths = [pathlib.Path(path) for path in associated_files]
        contents = {path.name: path.read_bytes() for path in paths}
        if len(contents) == len(paths):
            return contents
    else:
        contents = None
    if not isinstance(associated_files, dict) or not all(
        isinstance(name, str) and name and isinstance(data, bytes)
        for name, data in contents.items()
    ):
        raise ValueError(
            "Argument `associated_files` must be a dict of names to bytes or a list of paths with "
            f"different names. Received: associated_files={associated_files!r}"
        )
    return contents


def with_associated_files(content, files):
    """Returns a TFLite file with files behind it, stored without compression.

    Args:
        content: Bytes of the file.
        files: Dict of names to bytes.
    """
    if not files:
        return content
    result = io.BytesIO(content)
    with zipfile.ZipFile(result, "a") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), data)
    return result.getvalue()
