"""The files of a ticket search, from which a killed one goes on."""

import pathlib

from tf_lottery import files
from tf_lottery.snapshot import Snapshot
from tf_lottery.ticket import Ticket


class SearchState:
    """Keeps a search in a folder: `ticket_00.npz`, `ticket_01.npz`, ... and `search.npz`.

    Args:
        directory: The folder, made if it does not exist.
        settings: Dict fit for JSON, the arguments of the search that decide its result.
    """

    def __init__(self, directory, settings):
        self.directory = pathlib.Path(directory)
        self.settings = settings

    @property
    def path(self):
        """The file with the progress."""
        return self.directory / "search.npz"

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

    def save(self, progress, now, start, rewind_point):
        """Writes the progress, replacing the former.

        Args:
            progress: Dict fit for JSON.
            now: `Snapshot` of the model as it is.
            start: `Snapshot` of the model when the search began.
            rewind_point: `Snapshot` to rewind to, or `None` if it lies ahead.
        """
        arrays = {**now.to_arrays("now/"), **start.to_arrays("start/")}
        if rewind_point is not None:
            arrays.update(rewind_point.to_arrays("rewind_point/"))
        metadata = {"settings": self.settings, "progress": progress}
        files.save_arrays(self.path, "search", arrays, metadata)

    def load(self, model):
        """Reads the progress.

        Args:
            model: The model the search is about.

        Returns:
            The progress and the three snapshots that `save` was given.

        Raises:
            ValueError: If the folder holds a search with other settings or a damaged file.
        """
        arrays, metadata = files.load_arrays(self.path, "search")
        if metadata["settings"] != self.settings:
            raise ValueError(
                "Argument `directory` must be empty or hold a search with the same arguments, "
                f"{self.settings}. Received: directory={str(self.directory)!r} with "
                f"{metadata['settings']}"
            )
        names = ("now/", "start/", "rewind_point/")
        snapshots = [
            Snapshot.from_arrays(model, arrays, name)
            if any(key.startswith(name) for key in arrays)
            else None
            for name in names
        ]
        return metadata["progress"], *snapshots

    def save_ticket(self, ticket):
        """Writes the ticket of a level."""
        ticket.save(self._ticket_path(ticket.level))

    def load_tickets(self, number):
        """Returns the tickets of the first `number` levels."""
        return [Ticket.load(self._ticket_path(i)) for i in range(number)]

    def _ticket_path(self, level):
        return self.directory / f"ticket_{level:02d}.npz"
