"""How long a training will still take."""

import time

import keras


class TimeLeft(keras.callbacks.Callback):
    """Prints after an epoch how long the rest of a `fit` will take, as long as that matters.

    Args:
        every: Float, seconds between two lines, and the shortest time left that is told. Defaults
            to `10.0`.

    Example:

    >>> TimeLeft(every=60.0).every
    60.0
    """

    def __init__(self, every: float = 10.0) -> None:
        super().__init__()
        self.every = every
        self._start = self._told = self._first = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock with the first epoch of this process."""
        if self._start is None:
            self._start = self._told = time.monotonic()
            self._first = epoch

    def on_epoch_end(self, epoch, logs=None):
        """Prints the time left."""
        now = time.monotonic()
        done, total = epoch + 1 - self._first, self.params.get("epochs", 0)
        left = (now - self._start) / done * (total - epoch - 1)
        if left >= self.every and now - self._told >= self.every:
            self._told = now
            print(f"About {duration(left)} left", flush=True)

    def on_train_end(self, logs=None):
        """Stops the clock: the next `fit` is another training."""
        self._start = None


def time_left(verbose):
    """Returns a list of the callback that tells the time left, empty if nothing is to be shown.

    Args:
        verbose: As in `fit`.

    Example:

    >>> time_left(0)
    []
    """
    return [TimeLeft()] if verbose else []


def duration(seconds):
    """Returns a time as a short text.

    Args:
        seconds: Float.

    Example:

    >>> [duration(seconds) for seconds in (4.2, 150, 9000)]
    ['4 s', '2 min', '2.5 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
