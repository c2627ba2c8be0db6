"""The files of a ticket search, from which it can be resumed."""

from tf_lottery import files, hosts
from tf_lottery.callbacks.resumable_folder import ResumableFolder
from tf_lottery.snapshot import Snapshot
from tf_lottery.ticket import Ticket

_FIELDS = {
    "level": int,
    "history": list,
    "epochs_done": int,
    "first_step": int,
    "num_tickets": int,
    "fit_epoch": int,
}


class SearchState(ResumableFolder):
    """Saves a search in a folder: `ticket_00.npz`, `ticket_01.npz`, ... and `search.npz`.

    Args:
        directory: The folder. It is created if it does not exist.
        settings: Dict that fits into JSON, the arguments of the search that affect its result.
    """

    def __init__(self, directory, settings):
        super().__init__(directory, "search", settings)

    def save(self, progress, now, start, rewind_point):
        """Writes the progress. It replaces the previous progress.

        Args:
            progress: Dict that fits into JSON.
            now: `Snapshot` of the current model.
            start: `Snapshot` of the model when the search began.
            rewind_point: `Snapshot` to rewind to, or `None` if training has not reached it.
        """
        arrays = {**now.to_arrays("now/"), **start.to_arrays("start/")}
        if rewind_point is not None:
            arrays.update(rewind_point.to_arrays("rewind_point/"))
        self.write(progress, arrays)

    def load(self, model, further=()):
        """Reads the progress.

        Args:
            model: The model of the search.
            further: Names of further values in the progress. Defaults to `()`.

        Returns:
            The progress and the three snapshots that `save` wrote.

        Raises:
            ValueError: If the folder holds a search with other settings or a damaged file.
        """
        progress, arrays = self.read({**_FIELDS, **dict.fromkeys(further, object)})
        names = ("now/", "start/", "rewind_point/")
        with files.reading(self.path, self.kind):
            _check_history(progress)
            snapshots = [
                Snapshot.from_arrays(model, arrays, name)
                if name != "rewind_point/" or any(key.startswith(name) for key in arrays)
                else None
                for name in names
            ]
        return progress, *snapshots

    def save_ticket(self, ticket):
        """Writes the ticket of a level."""
        hosts.on_writer(ticket.save, self._ticket_path(ticket.level))

    def load_tickets(self, number):
        """Returns the tickets of the first `number` levels."""
        return [Ticket.load(self._ticket_path(i)) for i in range(number)]

    def _ticket_path(self, level):
        return self.directory / f"ticket_{level:02d}.npz"


def _check_history(progress):
    """Raises a `ValueError` unless there is an entry for every level."""
    if len(progress["history"]) != progress["level"] + 1:
        raise ValueError(f"a history of {len(progress['history'])} levels")
    for level in progress["history"]:
        files.check_fields(level, {"density": (int, float), "logs": dict})
