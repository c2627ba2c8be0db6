"""The folder from which a killed search goes on."""

import pathlib

from tf_lottery import files


class ResumableFolder:
    """Keeps the progress of a search in a folder, and only for a search with its settings.

    Args:
        directory: The folder.
        kind: String, what is kept; the file with the progress has its name.
        settings: Dict fit for JSON, the arguments of the search that decide its result.
    """

    def __init__(self, directory, kind, settings):
        self.directory = pathlib.Path(directory)
        self.kind, self.settings = kind, settings

    @property
    def path(self):
        """The file with the progress."""
        return self.directory / f"{self.kind}.npz"

    def exists(self):
        """Returns whether there is a search to go on with, and makes the folder.

        Raises:
            OSError: If the folder cannot be made.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"Argument `directory` must be a folder ({error.strerror}). Received"
            raise OSError(error.errno, message, str(self.directory)) from None
        return self.path.exists()

    def write(self, progress, arrays):
        """Writes the progress, replacing the former, atomically.

        Args:
            progress: Dict fit for JSON.
            arrays: Dict of names to NumPy arrays.
        """
        metadata = {"settings": self.settings, "progress": progress}
        files.save_arrays(self.path, self.kind, arrays, metadata)

    def read(self):
        """Returns the progress and the arrays that `write` was given.

        Raises:
            ValueError: If the folder holds a search with other settings or a damaged file.
        """
        arrays, metadata = files.load_arrays(self.path, self.kind)
        if metadata["settings"] != self.settings:
            raise ValueError(
                "Argument `directory` must be empty or hold a search with the same arguments, "
                f"{self.settings}. Received: directory={str(self.directory)!r} with "
                f"{metadata['settings']}"
            )
        return metadata["progress"], arrays
