"""The folder from which an interrupted search resumes."""

import pathlib

from tf_lottery import files, hosts


class ResumableFolder:
    """Saves the progress of a search in a folder, and checks the settings when it is read.

    Of several processes that share a training, one writes, and all read.

    Args:
        directory: The folder.
        kind: String, the kind of search. It is also the name of the file with the progress.
        settings: Dict that fits into JSON, the arguments of the search that affect its result.
    """

    def __init__(self, directory, kind, settings):
        self.directory = pathlib.Path(directory)
        self.kind, self.settings = kind, settings

    @property
    def path(self):
        """The file with the progress."""
        return self.directory / f"{self.kind}.npz"

    def exists(self):
        """Creates the folder, and returns whether it has a search to resume.

        What killed processes have left of files they were writing is deleted; see `files.sweep`.

        Raises:
            OSError: If the folder cannot be created.
            ValueError: If several processes find different files.
        """
        hosts.on_writer(self._prepare)
        size = self.path.stat().st_size if self.path.exists() else None
        hosts.check_same(size, "directory", self.path)
        return size is not None

    def _prepare(self):
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"Argument `directory` must be a folder ({error.strerror}). Received"
            raise OSError(error.errno, message, str(self.directory)) from None
        files.sweep(self.directory)

    def write(self, progress, arrays):
        """Writes the progress atomically. It replaces the previous progress.

        Args:
            progress: Dict that fits into JSON.
            arrays: Dict of names to NumPy arrays.
        """
        metadata = {"settings": self.settings, "progress": progress}
        hosts.on_writer(files.save_arrays, self.path, self.kind, arrays, metadata)

    def read(self, fields):
        """Returns the progress and the arrays that `write` saved.

        Args:
            fields: Dict of the names in the progress to their types; see `files.check_fields`.

        Raises:
            ValueError: If the folder holds a search with other settings or a damaged file.
        """
        arrays, metadata = files.load_arrays(self.path, self.kind)
        with files.reading(self.path, self.kind):
            files.check_fields(metadata, {"settings": dict, "progress": dict})
            files.check_fields(metadata["progress"], fields)
        hosts.check_same(metadata, "directory", self.path)
        if metadata["settings"] != self.settings:
            raise ValueError(
                "Argument `directory` must be empty or hold a search with the same arguments, "
                f"{self.settings}. Received: directory={str(self.directory)!r} with "
                f"{metadata['settings']}"
            )
        return metadata["progress"], arrays
