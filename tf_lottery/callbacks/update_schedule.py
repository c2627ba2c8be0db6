"""When dynamic sparse training moves connections, and how many."""


class UpdateSchedule:
    """The steps of all updates, and the share of the active weights that each of them drops.

    It is the update schedule of "Rigging the Lottery" (arXiv:1911.11134, section 3).

    Args:
        steps: Range of the steps at which updates are due.
        drop_fraction: Function of the step that returns a float in [0, 1).
        accumulation_steps: Integer > 0, in how many steps the optimizer changes weights once. An
            update waits for such a step. Defaults to `1`.

    Example:

    >>> schedule = UpdateSchedule(range(10, 40, 10), lambda step: 0.3, accumulation_steps=4)
    >>> schedule.next_step(0), schedule.num_due(11), schedule.num_due(12)
    (12, 0, 1)
    """

    def __init__(self, steps, drop_fraction, accumulation_steps=1):
        self.steps, self.drop_fraction = steps, drop_fraction
        self._accumulation_steps = accumulation_steps

    def num_due(self, step):
        """Returns the number of updates that are due up to a step."""
        # Computed from the range, since this is asked at every step.
        passed = step - step % self._accumulation_steps - self.steps.start
        return min(max(0, passed // self.steps.step + 1), len(self.steps))

    def next_step(self, step):
        """Returns the first step after a given one at which to make an update, or `None`."""
        later = self.steps[self.num_due(step) :]
        if not later:
            return None
        return -(-later[0] // self._accumulation_steps) * self._accumulation_steps


def end_of(drop_fraction, begin_step):
    """Returns the step from which a drop fraction is 0, or `None` if not after `begin_step`.

    Args:
        drop_fraction: Float, or function of the step.
        begin_step: Integer.
    """
    end_step = getattr(drop_fraction, "end_step", None)
    if end_step is None or end_step <= begin_step or drop_fraction(end_step) > 0:
        return None
    return end_step
