"""Supermasks: masks with which untrained weights predict better than chance."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tf_lottery import hosts
from tf_lottery.checks import choice
from tf_lottery.controls.changes import (
    changed,
    check_seed,
    check_ticket,
    generator,
    weights_like,
)
from tf_lottery.kernel_ranking import advice_for_emptied, warn_of_emptied
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.printable import plain
from tf_lottery.snapshot import Snapshot
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import scores as score_functions
from tf_lottery.sparsity.distributions import values_by_path
from tf_lottery.ticket import Ticket


def supermask(
    initial: Ticket | Snapshot | keras.Model | dict,
    final: Snapshot | keras.Model | dict,
    sparsity: float | dict[str, float],
    criterion: str | Callable = "large_final_same_sign",
    scope: str = "layer",
    floor: int = 1,
    seed: int | list[int] = 0,
) -> Ticket:
    """Masks initial weights, by scores that depend on the trained weights.

    The weights with the highest scores are kept, with their values before training. To measure
    how well the masks alone predict, see `evaluate_supermask`. The criteria are those of
    "Deconstructing Lottery Tickets" (arXiv:1905.01067, sections 2 and 5).

    Args:
        initial: The weights before training: a `Ticket`; a `SparseModel` that is not trained;
            or a `Snapshot` or dict of paths to arrays, if `final` is a `SparseModel`. Weights
            that the masks of `initial` prune, or else those of `final`, stay pruned.
        final: The trained `keras.Model`, sparse or not, a `Snapshot` of it or a dict of paths to
            arrays.
        sparsity: Float in [0, 1), the fraction of zeros; with `scope="layer"` also a dict of
            paths or regular expressions to fractions. Of several expressions that are found in
            a path, the first one counts.
        criterion: Which weights are kept: `"large_final"`, `"large_init"`,
            `"magnitude_increase"`, `"movement"`, `"random"`, one of these with `"_same_sign"`
            appended, or what else `tf_lottery.sparsity.scores.get` takes. Defaults to
            `"large_final_same_sign"`, which first prunes weights that have changed their sign.
        scope: `"layer"` ranks each kernel by itself, `"global"` all weights together. Defaults to
            `"layer"`.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see `tfl.prune`.
            Defaults to `1`.
        seed: Integer or list of integers >= 0, for random criteria. Defaults to `0`.

    Returns:
        A `Ticket` of the masks and the initial weights.

    Raises:
        ValueError: If an argument is outside its range, `final` lacks a weight, or neither
            `initial` nor `final` tells which weights are kernels.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> sparse.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    >>> start = tfl.Ticket.from_model(sparse)
    >>> history = sparse.fit(x, y, epochs=10, verbose=0)
    >>> ticket = tfl.controls.supermask(start, sparse, sparsity=0.5)
    >>> tfl.controls.evaluate_supermask(ticket, sparse, x_test, y_test)["accuracy"] > 0.5
    True
    """
    ticket = check_ticket(_initial_ticket(initial, final), needs_weights=True)
    score = score_functions.get(criterion)
    choice("scope", scope, mask_ops.SCOPES)
    seed = check_seed(seed)
    asked = sparsity
    if isinstance(sparsity, dict) and scope == "layer":
        sparsity = values_by_path("sparsity", sparsity, list(ticket.masks))
    trained = weights_like(ticket, "final", final, ticket.masks)
    rng = generator("supermask", seed)
    scores = {
        path: score(values, initial_weights=ticket.weights[path], rng=rng)
        for path, values in trained.items()
    }
    masks = mask_ops.top_k_masks(scores, sparsity, scope=scope, masks=ticket.masks, floor=floor)
    warn_of_emptied(ticket.masks, masks, advice_for_emptied(floor))
    arguments = {
        "sparsity": asked,
        "criterion": plain(criterion),
        "scope": scope,
        "floor": floor,
        "seed": seed,
    }
    result = changed(ticket, "supermask", arguments, masks, pattern="unstructured")
    return dataclasses.replace(result, level=ticket.level + 1)


def evaluate_supermask(
    ticket: Ticket, model: SparseModel, x: Any, y: Any = None, rescale: bool = False, **kwargs: Any
) -> dict[str, float]:
    """Measures how well the masks of a ticket predict with its untrained weights.

    Without a mask, untrained weights predict at chance. With LeNet-300-100 on MNIST, the best
    masks that are not learned reach about 86% ("Deconstructing Lottery Tickets",
    arXiv:1905.01067, section 5). The model's weights and masks are restored afterwards.
    Batch statistics are those of the ticket: initial ones, if the ticket is from step 0.

    Args:
        ticket: A `Ticket`, for example of `supermask`, of `constant_weights` or of a search.
        model: A compiled `SparseModel` of the ticket's architecture.
        x: Inputs, as for `keras.Model.evaluate`.
        y: Labels, unless `x` contains them. Defaults to `None`.
        rescale: Whether every kernel is multiplied by the inverse of its density: the dynamic
            weight rescaling of arXiv:1905.01067, section 5. In networks with biases of 0 and
            ReLU activations it changes the loss and not the accuracy. Defaults to `False`.
        **kwargs: Further arguments of `keras.Model.evaluate`, such as `batch_size`.

    Returns:
        Dict of the loss and the metrics, floats.

    Raises:
        ValueError: If the model is not compiled or differs from the ticket.

    Example:

    >>> found = tfl.controls.evaluate_supermask(ticket, sparse, x_test, y_test, rescale=True)
    >>> sorted(found)
    ['accuracy', 'loss']
    """
    check_ticket(ticket, needs_weights=True)
    check_settled(model)
    if not model.compiled:
        raise ValueError(
            "Argument `model` must be compiled with a loss and metrics. "
            f"Received: {model.name!r}, which is not compiled"
        )
    before = model.get_weights()
    try:
        unmatched = ticket.apply(model).unmatched
        if unmatched:
            raise ValueError(
                "Argument `model` must have the architecture and the kernels of the ticket. "
                f"Received: {model.name!r}, which differs in {unmatched}"
            )
        if rescale:
            _rescale(model)
        return model.evaluate(x, y, **{"verbose": 0, **kwargs, "return_dict": True})
    finally:
        model.set_weights(before)


def _initial_ticket(initial, final):
    if isinstance(initial, Ticket):
        return initial
    if isinstance(initial, SparseModel):
        return Ticket.from_model(check_settled(initial, "initial"))
    if not isinstance(final, SparseModel):
        raise ValueError(
            "Argument `initial` must be a `Ticket` or `SparseModel` unless `final` is a "
            "`SparseModel`, to tell which weights are kernels. "
            f"Received: initial={type(initial).__name__}, final={type(final).__name__}"
        )
    ticket = Ticket.from_model(check_settled(final, "final"))
    weights = weights_like(ticket, "initial", initial)
    return Ticket(ticket.masks, weights, ticket.level, ticket.provenance)


def _rescale(model):
    """Divides every kernel by the density of its mask."""
    masks = model.get_masks()
    for path, kernel in model.kernels.items():
        if masks[path].any():
            hosts.assign(kernel, hosts.to_numpy(kernel) / masks[path].mean())
