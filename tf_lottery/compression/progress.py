"""Shows how far a compression is."""

import contextlib


class Progress:
    """Notes what is done. This one shows nothing.

    Args:
        total: Integer, the steps of the compression if it does not stop early anywhere.
    """

    def __init__(self, total):
        self.total = total

    def start(self, name):
        """Says which network or file is being made."""

    def advance(self, steps):
        """Goes on by some steps, also past what need not be done."""


class _Shown(Progress):
    """Shows a bar with the time left on a terminal, else a line for every network and file."""

    def __init__(self, total, bar, console):
        super().__init__(total)
        self._bar, self._console = bar, console
        self._task = bar.add_task("", total=total) if bar else None

    def start(self, name):
        if self._bar:
            self._bar.update(self._task, description=name)
        else:
            self._console.print(name, highlight=False)

    def advance(self, steps):
        if self._bar:
            self._bar.advance(self._task, steps)


@contextlib.contextmanager
def shown_progress(total, verbose):
    """Yields a `Progress`.

    Args:
        total: Integer.
        verbose: Boolean, whether anything is shown, on standard error.

    Example:

    >>> with shown_progress(3, verbose=0) as progress:
    ...     progress.start("dense")
    ...     progress.advance(3)
    """
    if not verbose:
        yield Progress(total)
        return
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield _Shown(total, None, console)
        return
    columns = (
        rich_progress.BarColumn(20),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("at most"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.description}"),
    )
    with rich_progress.Progress(*columns, console=console, transient=True) as bar:
        yield _Shown(total, bar, console)
