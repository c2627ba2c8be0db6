"""Controls with other weights: does a ticket need the values that it starts from?"""

import warnings
from typing import Any

import keras
import numpy as np

from tf_lottery.checks import choice, natural_number
from tf_lottery.controls.changes import (
    changed,
    check_seed,
    check_ticket,
    generator,
    warn_of_masked_weights,
    weights_like,
)
from tf_lottery.model import SparseModel
from tf_lottery.snapshot import Snapshot
from tf_lottery.ticket import Ticket

AMONG = ("survivors", "all")


def random_reinitialization(
    ticket: Ticket, model: Any, seed: int | None = None, keep_signs: bool = False
) -> Ticket:
    """Gives a ticket new initial weights: the control of the lottery ticket hypothesis.

    A winning ticket trains better than the same masks with new random weights ("The Lottery
    Ticket Hypothesis", arXiv:1803.03635, section 2 and figure 4, with three draws per ticket).
    The new weights, biases and batch statistics are those of another instance of the model, so
    that each comes from its own initializer.

    Args:
        ticket: A `Ticket`.
        model: A function of a seed that returns a newly built `keras.Model` of the ticket's
            architecture; or such a model, a `Snapshot` of one or a dict of paths to arrays. In
            the function, the seed has to determine the weights; call
            `keras.utils.set_random_seed(seed)` first, for example.
        seed: Integer >= 0, passed to the function. It must differ from the seed of the ticket.
            Defaults to `None`, for a `model` that is not a function.
        keep_signs: Whether masked kernels keep the signs of the ticket's weights and take only
            magnitudes from the new ones. In "Deconstructing Lottery Tickets"
            (arXiv:1905.01067, section 3) this trains nearly as well as the ticket. Where the
            ticket's weight is 0 the sign is new. Defaults to `False`.

    Returns:
        A `Ticket` with the same masks and other weights.

    Raises:
        ValueError: If an argument is outside its range, `model` lacks a weight of the ticket, is
            pruned itself, or all its masked kernels have the values of the ticket.

    Example:

    >>> def build(seed):
    ...     keras.utils.set_random_seed(seed)
    ...     return keras.models.clone_model(model)
    >>> control = tfl.controls.random_reinitialization(ticket, build, seed=1000)
    >>> control.apply(sparse).unmatched
    {}
    """
    check_ticket(ticket, needs_weights=keep_signs)
    model, seed = _built(model, seed)
    weights = weights_like(ticket, "model", model)
    _check_new(ticket, weights)
    if keep_signs:
        warn_of_masked_weights(ticket)
        for path in ticket.masks:
            weights[path] = _with_signs(weights[path], ticket.weights[path])
    arguments = {"seed": seed, "keep_signs": bool(keep_signs)}
    return changed(ticket, "random_reinitialization", arguments, weights=weights)


def reshuffle_weights(
    ticket: Ticket, seed: int | list[int] = 0, keep_signs: bool = False, among: str = "survivors"
) -> Ticket:
    """Permutes the initial weights of a ticket within every masked kernel.

    This reinitializes with the distribution of the surviving weights: "Deconstructing
    Lottery Tickets" (arXiv:1905.01067, section 3, reshuffle) and "The Lottery Ticket
    Hypothesis" (arXiv:1803.03635, appendix F.3).

    Args:
        ticket: A `Ticket`.
        seed: Integer or list of integers >= 0. Defaults to `0`.
        keep_signs: Whether every position keeps its sign and only magnitudes are permuted.
            Defaults to `False`.
        among: `"survivors"` permutes only the weights that the masks keep, `"all"` the whole
            kernel, as in arXiv:1905.01067. Defaults to `"survivors"`.

    Returns:
        A `Ticket` with the same masks and other weights.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> control = tfl.controls.reshuffle_weights(ticket, seed=1, keep_signs=True)
    >>> control.apply(sparse).unmatched
    {}
    """
    check_ticket(ticket, needs_weights=True)
    seed = check_seed(seed)
    choice("among", among, AMONG)
    if among == "all":
        warn_of_masked_weights(ticket)
    rng = generator("reshuffle_weights", seed)
    weights = {}
    for path, mask in ticket.masks.items():
        before = ticket.weights[path]
        chosen = mask if among == "survivors" else np.ones_like(mask)
        values = rng.permutation(before[chosen])
        weights[path] = before.copy()
        weights[path][chosen] = _with_signs(values, before[chosen]) if keep_signs else values
    arguments = {"seed": seed, "keep_signs": bool(keep_signs), "among": among}
    return changed(ticket, "reshuffle_weights", arguments, weights=weights)


def constant_weights(ticket: Ticket, keep_signs: bool = True, seed: int | list[int] = 0) -> Ticket:
    """Gives all weights of a masked kernel one magnitude.

    The magnitude is the standard deviation of the kernel's weights in the ticket, pruned ones
    included. With the signs kept, tickets train nearly as well as from their own weights
    ("Deconstructing Lottery Tickets", arXiv:1905.01067, section 3, constant).

    Args:
        ticket: A `Ticket`.
        keep_signs: Whether weights keep their signs, 0 counting as positive. `False` permutes
            the signs within each kernel. Defaults to `True`.
        seed: Integer or list of integers >= 0, for the permutation of the signs. Defaults to
            `0`.

    Returns:
        A `Ticket` with the same masks and other weights.

    Raises:
        ValueError: If an argument is outside its range or all weights of a kernel are equal.

    Example:

    >>> tfl.controls.constant_weights(ticket).apply(sparse).unmatched
    {}
    """
    check_ticket(ticket, needs_weights=True)
    seed = check_seed(seed)
    warn_of_masked_weights(ticket)
    rng = generator("constant_weights", seed)
    weights = {}
    for path in ticket.masks:
        before = ticket.weights[path]
        constant = before.astype("float64").std()
        if constant == 0:
            raise ValueError(
                "Argument `ticket` must have kernels with different weights, whose deviation "
                f"becomes the constant. Received: {path!r}, in which all are equal"
            )
        signs = np.where(before < 0, -1.0, 1.0)
        if not keep_signs:
            signs = rng.permuted(signs)
        weights[path] = (constant * signs).astype(before.dtype)
    arguments = {"keep_signs": bool(keep_signs), "seed": seed}
    return changed(ticket, "constant_weights", arguments, weights=weights)


def final_weights(ticket: Ticket, weights: Snapshot | keras.Model | dict) -> Ticket:
    """Gives a ticket the weights at the end of training instead of the rewound ones.

    Training the new ticket is fine-tuning, which "Comparing Rewinding and Fine-tuning in Neural
    Network Pruning" (arXiv:2003.02389) compares with rewinding.

    Args:
        ticket: A `Ticket`.
        weights: The trained `keras.Model`, sparse or not, a `Snapshot` of it or a dict of paths to
            arrays.

    Returns:
        A `Ticket` with the same masks and other weights.

    Raises:
        ValueError: If an argument has another type or lacks a weight of the ticket.

    Example:

    >>> history = sparse.fit(x, y, epochs=3, verbose=0)
    >>> tfl.controls.final_weights(ticket, sparse).apply(other_sparse).unmatched
    {}
    """
    check_ticket(ticket)
    return changed(ticket, "final_weights", {}, weights=weights_like(ticket, "weights", weights))


def _built(model, seed):
    """Returns the model and the seed; builds the model with the seed if it is a function."""
    # Models are callable too.
    is_function = callable(model) and not isinstance(model, keras.Model)
    if is_function:
        seed = natural_number("seed", seed)
        model = model(seed)
    elif seed is not None:
        raise ValueError(
            "Argument `seed` must be `None` unless `model` is a function, which is called with "
            f"it. Received: seed={seed!r}"
        )
    if isinstance(model, SparseModel) and model.density < 1:
        raise ValueError(
            "Argument `model` must not be pruned, since its zeros are not initial weights. "
            f"Received: {model.name!r} of density {model.density:.4f}"
        )
    return model, seed


def _check_new(ticket, weights):
    """Refuses new weights that equal the old ones, as a fixed seed would make them."""
    masks = {path: mask for path, mask in ticket.masks.items() if path in ticket.weights}
    old = {path: ticket.weights[path][mask] for path, mask in masks.items()}
    # Kernels with one value, such as zeros, come from initializers that are not random.
    old = {path: values for path, values in old.items() if np.unique(values).size > 1}
    same = [path for path, v in old.items() if np.array_equal(weights[path][masks[path]], v)]
    if same and len(same) == len(old):
        raise ValueError(
            "Argument `model` must have other weights than the ticket: build it with another "
            f"seed. Received: the same values in {same}"
        )
    if same:
        warnings.warn(
            f"The new weights equal those of the ticket in {same}. Let their initializers depend "
            "on the seed too.",
            stacklevel=3,
        )


def _with_signs(values, signs):
    """Returns the magnitudes of `values` with the signs of `signs`, where these have one."""
    magnitudes = np.abs(values)
    return np.where(signs == 0, values, np.where(signs < 0, -magnitudes, magnitudes))
