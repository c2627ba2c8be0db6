"""The budget of a compression: what a file may weigh and cost."""

import dataclasses

from tf_lottery.checks import choice, number_above

KINDS = {"bytes": "num_bytes", "flops": "flops", "milliseconds": "latency_ms"}


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most bytes, FLOPs and milliseconds that a file may have.

    Args:
        values: Dict of one or more of `KINDS` to numbers.
    """

    values: dict

    @classmethod
    def checked(cls, budget):
        """Returns the limits of a user's `budget`, or raises a `ValueError` if it is none."""
        if not isinstance(budget, dict) or not budget:
            raise ValueError(
                "Argument `budget` must be a dict such as `{'bytes': 200_000}`, of one or more of "
                f"{tuple(KINDS)}. Received: budget={budget!r}"
            )
        for kind in budget:
            choice("budget", kind, tuple(KINDS))
        numbers = {k: number_above(f"budget[{k!r}]", value, 0) for k, value in budget.items()}
        return cls({k: int(n) if n.is_integer() else n for k, n in numbers.items()})

    def excess(self, file):
        """Returns the largest ratio of what a file has to its limit: at most 1 if it meets all.

        Args:
            file: A `CompressedFile`.

        Example:

        >>> from types import SimpleNamespace
        >>> Limits({"bytes": 200}).excess(SimpleNamespace(num_bytes=300))
        1.5
        """
        return max(getattr(file, KINDS[kind]) / limit for kind, limit in self.values.items())

    def describe(self, file):
        """Returns what a file has of each limit, as words."""
        return ", ".join(
            f"{getattr(file, KINDS[kind]):,{_FORMS[kind]}} of {limit:,{_FORMS[kind]}} {kind}"
            for kind, limit in self.values.items()
        )


def least_accuracy(dense_accuracy, max_drop):
    """Returns the accuracy that a file must have, a little less because floats are rounded.

    Args:
        dense_accuracy: Float, that of the model.
        max_drop: Float.
    """
    return dense_accuracy - max_drop - 1e-9


_FORMS = {"bytes": ".0f", "flops": ".0f", "milliseconds": ".4g"}
