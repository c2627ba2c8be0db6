"""Shared by all controls: check a ticket, change it and record the change."""

import dataclasses
import warnings
import zlib

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.checks import natural_number
from tf_lottery.model import SparseModel, check_settled, named_weights
from tf_lottery.model.paths import match_paths
from tf_lottery.snapshot import Snapshot
from tf_lottery.ticket import Ticket


def check_ticket(ticket, needs_weights=False):
    """Returns `ticket`, or raises a `ValueError` if it is not a `Ticket`.

    Args:
        ticket: The object to check.
        needs_weights: Whether it must have the weights of all its masks. Defaults to `False`.
    """
    if not isinstance(ticket, Ticket):
        raise ValueError(f"Argument `ticket` must be a `Ticket`. Received: ticket={ticket!r}")
    missing = [path for path in ticket.masks if path not in ticket.weights]
    if needs_weights and missing:
        raise ValueError(
            "Argument `ticket` must have the weights of all kernels with a mask. "
            f"Received: none for {missing}"
        )
    return ticket


def changed(ticket, name, arguments, masks=None, weights=None, pattern=None):
    """Returns a ticket with other masks or weights that records how it was made.

    Args:
        ticket: A `Ticket`, which is not changed.
        name: String, the control.
        arguments: Dict of its arguments, in a form that JSON can store.
        masks: Dict of the masks that differ. Defaults to `None`.
        weights: Dict of the weights that differ. Defaults to `None`.
        pattern: String, the pattern of the masks. Defaults to `None`: as before.

    Returns:
        A `Ticket`. Its `provenance["control"]` is a list with a dict for each control, in order.
    """
    controls = [*ticket.provenance.get("control", []), {"name": name, **arguments}]
    provenance = {**ticket.provenance, "control": controls}
    if weights is not None:
        # The new weights are not those of the recorded training step.
        provenance.pop("step", None)
    if pattern is not None:
        provenance["pattern"] = pattern
    masks = {**ticket.masks, **(masks or {})}
    weights = {**ticket.weights, **(weights or {})}
    return dataclasses.replace(ticket, masks=masks, weights=weights, provenance=provenance)


def check_seed(seed):
    """Returns a seed as an integer or a list of integers, in a form that JSON can store.

    Args:
        seed: Integer >= 0 or list of such.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(seed, list | tuple) and seed:
        return [natural_number("seed", part) for part in seed]
    return natural_number("seed", seed)


def generator(name, seed):
    """Returns the random generator of a control.

    The name is part of the seed. Otherwise shuffling a mask that random pruning made with the
    same seed could return the same mask.

    Args:
        name: String, the control.
        seed: What `check_seed` returns.
    """
    seeds = seed if isinstance(seed, list) else [seed]
    return np.random.default_rng([zlib.crc32(name.encode()), *seeds])


def warn_of_masked_weights(ticket):
    """Warns if the weights of a ticket are 0 wherever its masks prune.

    The warning points at the caller of the control.

    Args:
        ticket: A `Ticket`.
    """
    masked = [path for path, mask in ticket.masks.items() if _is_masked(ticket, path, mask)]
    if masked:
        warnings.warn(
            f"The ticket has zeros wherever it prunes {masked}. The control uses these weights, "
            "which are 0 instead of what training started from. Make the ticket with the unpruned "
            "weights, `Ticket.from_model(model, weights=snapshot.weights)`, or use one of "
            "`IterativeMagnitudePruning`, which has them.",
            stacklevel=3,
        )


def _is_masked(ticket, path, mask):
    weights = ticket.weights.get(path)
    return weights is not None and bool(weights.any()) and not (mask.all() or weights[~mask].any())


def weights_by_path(name, source):
    """Returns the weights of a model, a snapshot, a ticket or a dict.

    Args:
        name: String, the argument's name for messages.
        source: A `SparseModel` or any built `keras.Model`, a `Snapshot`, a `Ticket`, or a dict of
            paths to arrays.

    Returns:
        Dict of paths to arrays.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(source, SparseModel):
        check_settled(source, name)
    if isinstance(source, keras.Model) and source.built:
        return {
            path: hosts.to_numpy(variable).copy()
            for path, variable in named_weights(source).items()
        }
    if isinstance(source, Snapshot | Ticket):
        return source.weights
    if isinstance(source, dict):
        return {path: np.asarray(value) for path, value in source.items()}
    raise ValueError(
        f"Argument `{name}` must be a built `keras.Model`, a `Snapshot`, a `Ticket` or a dict of "
        f"paths to arrays. Received: {name}={source!r}"
    )


def weights_like(ticket, name, source, paths=None):
    """Returns the weights of another instance of a ticket's architecture, by the ticket's paths.

    Args:
        ticket: A `Ticket`.
        name: String, the argument's name for messages.
        source: As in `weights_by_path`.
        paths: The paths that are needed. Defaults to `None`: all of the ticket.

    Returns:
        Dict of `paths` to arrays.

    Raises:
        ValueError: If `source` lacks one.
    """
    values = weights_by_path(name, source)
    shapes = {path: array.shape for path, array in {**ticket.weights, **ticket.masks}.items()}
    pairs = match_paths(shapes, {path: value.shape for path, value in values.items()})
    paths = list(shapes) if paths is None else paths
    missing = {path: shapes[path] for path in paths if path not in pairs}
    if missing:
        received = {path: value.shape for path, value in values.items()}
        raise ValueError(
            f"Argument `{name}` must have all weights of the ticket, but has none for {missing}. "
            f"Received: weights of {received}"
        )
    return {path: values[pairs[path]] for path in paths}
