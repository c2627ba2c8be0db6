"""The cost of training with each method of sparse training."""

from collections.abc import Callable

from tf_lottery.checks import choice, positive_integer

METHODS = ("dense", "static", "snip", "set", "snfs", "rigl", "pruning")


def training_flops(
    rows: list,
    method: str,
    *,
    frequency: int = 100,
    schedule: Callable | None = None,
    total_steps: int | None = None,
    first_input_gradient: bool = True,
) -> float:
    """Returns the FLOPs of training on one example, averaged over training.

    A step costs a forward pass, the gradient of the inputs and the gradient of the weights,
    each as much as a forward pass through the weights it needs; see appendix H of "Rigging
    the Lottery" (arXiv:1911.11134). With `S` and `D` for the sparse and the dense network:

    - `"dense"`: `3 * D`.
    - `"static"`, `"snip"`, `"set"`: `3 * S`.
    - `"snfs"`: `2 * S + D`, as it needs the dense gradient of the weights at every step.
    - `"rigl"`: `(frequency * 3 * S + 2 * S + D) / (frequency + 1)`.
    - `"pruning"`: the mean of `3 * S_t`, with the sparsities of all kernels in proportion to
      the schedule's value at `t = 0, frequency, 2 * frequency, ... <= total_steps`.

    Not included: the cost of choosing weights, and that RigL stops its updates before the end.

    Args:
        rows: List of objects with the attributes `sparse` and `dense`, the FLOPs of a
            forward pass through a kernel, in the order of their use.
        method: One of the names above.
        frequency: Integer > 0. Steps between two updates of the masks, for `"rigl"` and
            `"pruning"`. Defaults to `100`.
        schedule: Function of the step to the sparsity, for `"pruning"`, such as
            `tfl.sparsity.Polynomial`. Defaults to `None`.
        total_steps: Integer > 0, the steps of training, for `"pruning"`. Defaults to `None`.
        first_input_gradient: Boolean, whether the gradient of the first kernel's input is
            counted, although training does not need it. Defaults to `True`, the papers'
            convention for large networks; their table for MNIST leaves it out.

    Returns:
        Float.

    Raises:
        ValueError: If an argument is outside its range, or one that the method needs is
            missing.
    """
    choice("method", method, METHODS)
    positive_integer("frequency", frequency)
    sparse, dense = sum(row.sparse for row in rows), sum(row.dense for row in rows)
    skipped = rows[0] if rows and not first_input_gradient else None
    sparse_gradient = sparse - skipped.sparse if skipped else sparse
    dense_gradient = dense - skipped.dense if skipped else dense
    sparse_step, dense_step = 2 * sparse + sparse_gradient, 2 * dense + dense_gradient
    update = sparse + sparse_gradient + dense
    if method == "dense":
        return float(dense_step)
    if method == "snfs":
        return float(update)
    if method == "rigl":
        return (frequency * sparse_step + update) / (frequency + 1)
    if method == "pruning":
        progress = _mean_progress(schedule, frequency, total_steps)
        return dense_step + progress * (sparse_step - dense_step)
    return float(sparse_step)


def _mean_progress(schedule, frequency, total_steps):
    """Returns the mean of the schedule as a fraction of its value at the end of training."""
    if not callable(schedule):
        raise ValueError(
            "Argument `schedule` must be a schedule such as `tfl.sparsity.Polynomial` for "
            f"`method='pruning'`. Received: schedule={schedule!r}"
        )
    positive_integer("total_steps", total_steps)
    final = schedule(total_steps)
    if not final:
        raise ValueError(
            "Argument `schedule` must prune before `total_steps`. "
            f"Received: schedule={schedule!r}, total_steps={total_steps}"
        )
    values = [schedule(step) for step in range(0, total_steps + 1, frequency)]
    return sum(values) / len(values) / final
