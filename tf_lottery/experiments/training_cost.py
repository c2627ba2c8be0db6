"""What a training costs: its steps and their FLOPs."""

from tf_lottery.analysis._flops import flops

# How `training_flops` counts methods that have another name there. The others keep their mask.
_FORMULAS = {"dense": "dense", "rigl": "rigl", "snfs": "snfs", "gmp": "pruning"}


def training_cost(model, settings, steps, *, updates=(), tickets=()):
    """Returns the steps of a training and their FLOPs, after the training.

    FLOPs are those of `tfl.flops` that a training needs which skips all zeros; see
    `tf_lottery.analysis.training_flops`. The cost of choosing weights is not included. A search
    costs all its trainings: those of `"imp"` are as dense as their masks, the first one dense;
    those of `"cs"` are dense while gates are soft, since a soft gate is zero nowhere.

    Args:
        model: The trained `SparseModel`.
        settings: `TrainSettings` or `RetrainSettings`.
        steps: Integer, the length of a training, or of a level or round.
        updates: Sequence of the callbacks that `methods.mask_updates` returned. Defaults to `()`.
        tickets: Sequence of the `Ticket` of every level of `"imp"`, or round of `"cs"`. Defaults
            to `()`.

    Returns:
        Dict of `steps`, and of `training_flops`, `None` if the FLOPs of the model cannot be
        counted, or those of none of its layers.

    Example:

    >>> from tf_lottery.experiments.training import TrainSettings
    >>> training_cost(sparse, TrainSettings("static", batch_size=10), steps=7)["steps"]
    7
    """
    cost = {"steps": steps * _trainings(settings, tickets), "training_flops": None}
    try:
        report = flops(model)
    except Exception:  # A model's own code may fail in any way when it is traced.
        return cost
    if not report.rows:
        return cost
    method = getattr(settings, "method", "static")
    if method == "imp":
        levels = (report.with_sparsities(_sparsities(report, ticket)) for ticket in tickets)
        per_example = sum(level.training("static") for level in levels)
    elif method == "cs":
        retrained = report.training("static") if settings.option("mode") == "ticket" else 0.0
        per_example = settings.option("rounds") * report.training("dense") + retrained
    else:
        per_example = report.training(
            _FORMULAS.get(method, "static"), **_timing(method, updates, steps)
        )
    return {**cost, "training_flops": float(per_example * steps * settings.batch_size)}


def _trainings(settings, tickets):
    """Returns how often a method trains the network."""
    method = getattr(settings, "method", "static")
    if method == "imp":
        return len(tickets)
    return getattr(settings, "num_trainings", 1)


def _sparsities(report, ticket):
    """Returns the sparsities of the counted kernels that a ticket has masks of."""
    counted = {row.path for row in report.rows}
    return {path: 1.0 - mask.mean() for path, mask in ticket.masks.items() if path in counted}


def _timing(method, updates, steps):
    """Returns the arguments of `FlopsReport.training` that say when masks change."""
    if method in ("rigl", "snfs"):
        return {"frequency": updates[0].frequency}
    if method == "gmp":
        schedule, frequency = updates[0].schedule, updates[0].frequency
        return {"schedule": schedule, "frequency": frequency, "total_steps": steps}
    return {}
