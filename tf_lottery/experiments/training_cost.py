"""What a training costs: its steps and their FLOPs."""

from tf_lottery.analysis._flops import flops
from tf_lottery.experiments.methods import SEARCHES

# How `training_flops` counts methods that have another name there. The others keep their mask.
_FORMULAS = {"dense": "dense", "rigl": "rigl", "snfs": "snfs", "gmp": "pruning"}


def training_cost(model, settings, steps, *, updates=(), tickets=(), epochs=None):
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
        epochs: Sequence of integers, the epochs of every level or round that was trained: after the
            first, a search that rewinds to a later step trains fewer. Defaults to `None`: those of
            `settings`.

    Returns:
        Dict of `steps`; of `training_flops`, `None` if the FLOPs of the model cannot be counted, or
        those of none of its layers; and of `flops_coverage`, the share of the weights whose FLOPs
        are counted. For a search also `ticket_cost`, a dict of the `epochs`, `steps` and
        `training_flops` after which its ticket was known: without the training of that ticket,
        which ends a search.

    Example:

    >>> from tf_lottery.experiments.training import TrainSettings
    >>> training_cost(sparse, TrainSettings("static", batch_size=10), steps=7)["steps"]
    7
    """
    method = getattr(settings, "method", "static")
    if epochs is None:
        epochs = [settings.epochs] * _count(settings, tickets)
    lengths = [steps * trained // settings.epochs for trained in epochs]
    report = _report(model)
    per_example = None
    if report is not None:
        per_example = _per_example(report, method, settings, steps, updates, tickets)
    cost = _total(per_example, lengths, settings.batch_size)
    if report is not None:
        cost["flops_coverage"] = report.coverage
    if method in SEARCHES:
        # Gates that keep their weights end with the ticket, which is not trained again.
        found = len(epochs) - (method == "imp" or settings.option("mode") == "ticket")
        before = _total(per_example, lengths[:found], settings.batch_size)
        cost["ticket_cost"] = {"epochs": sum(epochs[:found]), **before}
    return cost


def _report(model):
    """Returns the `FlopsReport` of a model, or `None` if nothing can be counted."""
    try:
        report = flops(model)
    except Exception:  # A model's own code may fail in any way when it is traced.
        return None
    return report if report.rows else None


def _count(settings, tickets):
    """Returns how often a method trains the network."""
    if getattr(settings, "method", "static") == "imp":
        return len(tickets)
    return getattr(settings, "num_trainings", 1)


def _per_example(report, method, settings, steps, updates, tickets):
    """Returns the FLOPs of every training of a method for one example."""
    if method == "imp":
        levels = [report.with_sparsities(_sparsities(report, ticket)) for ticket in tickets]
        return [level.training("static") for level in levels]
    if method == "cs":
        soft = [report.training("dense")] * settings.option("rounds")
        return soft + [report.training("static")] * (settings.option("mode") == "ticket")
    return [report.training(_FORMULAS.get(method, "static"), **_timing(method, updates, steps))]


def _total(per_example, lengths, batch_size):
    """Returns the cost of the first trainings of a method, from the steps of each."""
    total = None
    if per_example is not None:
        trainings = zip(per_example, lengths, strict=False)
        total = float(sum(one * steps for one, steps in trainings) * batch_size)
    return {"steps": sum(lengths), "training_flops": total}


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
