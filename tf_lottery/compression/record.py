"""What a compression has found so far, in a file of its folder."""

import dataclasses
import pathlib

from tf_lottery import files
from tf_lottery.compression.files import CompressedFile
from tf_lottery.experiments.run_folder import read_json, write_json

FOUND = "found.json"


class Record:
    """The networks and files that were made and measured, written after each of them.

    Args:
        folder: The folder, which the process must own.

    Attributes:
        accuracies: Dict of the names of networks to their accuracies in Keras.
        files: Dict of the names of files to `CompressedFile`.
        problems: Dict of the names of networks and files to why they could not be made.

    Raises:
        ValueError: If the file is damaged.

    Example:

    >>> record = Record(".")
    >>> record.add_network("unstructured_50", 0.9)
    >>> Record(".").accuracies
    {'unstructured_50': 0.9}
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.accuracies, self.files, self.problems = {}, {}, {}
        path = self.folder / FOUND
        if path.exists():
            with files.reading(path, "compression"):
                found = read_json(path)
                files.check_fields(found, {"accuracies": dict, "files": list, "problems": dict})
                rows = [CompressedFile(**row) for row in found["files"]]
            self.accuracies, self.problems = found["accuracies"], found["problems"]
            self.files = {row.name: row for row in rows if (self.folder / row.name).exists()}

    def add_network(self, name, accuracy):
        """Notes the accuracy of a network."""
        self.accuracies[name] = accuracy
        self._write()

    def add_file(self, file):
        """Notes a `CompressedFile`."""
        self.files[file.name] = file
        self.problems.pop(file.name, None)
        self._write()

    def add_problem(self, name, problem):
        """Notes why a network or file could not be made."""
        self.problems[name] = problem
        self._write()

    def _write(self):
        write_json(
            self.folder / FOUND,
            {
                "accuracies": self.accuracies,
                "files": [dataclasses.asdict(file) for file in self.files.values()],
                "problems": self.problems,
            },
        )
