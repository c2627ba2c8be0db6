"""Controls with other masks: does it matter which weights a ticket keeps?"""

import math
from collections.abc import Callable

import numpy as np

from tf_lottery.checks import choice
from tf_lottery.controls.changes import (
    changed,
    check_seed,
    check_ticket,
    generator,
    warn_of_masked_weights,
)
from tf_lottery.controls.channels import by_group
from tf_lottery.model import SparseModel, check_sparse_model
from tf_lottery.model.paths import match_paths
from tf_lottery.printable import plain
from tf_lottery.sparsity import distributions, patterns
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import scores as score_functions
from tf_lottery.sparsity.patterns import Pattern
from tf_lottery.ticket import Ticket


def shuffle_masks(
    ticket: Ticket,
    seed: int | list[int] = 0,
    scope: str = "layer",
    pattern: str | Pattern | None = None,
    model: SparseModel | None = None,
) -> Ticket:
    """Moves the kept weights of a ticket to random places.

    If the ticket trains as well after this, it does not matter which weights it keeps, only how
    many in each layer: the sanity check of "Pruning Neural Networks at Initialization: Why
    Are We Missing the Mark?" (arXiv:2009.08576), and the random sparsity of "The
    Lottery Ticket Hypothesis" (arXiv:1803.03635, appendix E). The ticket's weights do not
    change; weights that only the new masks keep start from their values in the ticket.

    The new masks follow the same pattern: whole blocks and channels move, and N:M masks keep
    at most `n` of each `m`.

    Args:
        ticket: A `Ticket`.
        seed: Integer or list of integers >= 0. Defaults to `0`.
        scope: `"layer"` preserves the number of kept weights of every kernel, `"global"` only their
            total, with channels of different sizes as closely as possible. Kernels that the
            pattern does not divide are shuffled separately from the others. Defaults to
            `"layer"`.
        pattern: The pattern to follow, or its name. `"unstructured"` shuffles single weights,
            whatever the pattern of the ticket. Defaults to `None`: that in the ticket's
            provenance, if there is one.
        model: A `SparseModel` of the ticket's architecture. It is needed for channels, which
            several kernels make together. With other patterns it is needed for kernels of
            attention and other einsum layers, to know which axes are inputs. Defaults to `None`:
            the outputs are the last axis, or as many of the last axes as needed for the masks to
            follow the pattern.

    Returns:
        A `Ticket` with other masks.

    Raises:
        ValueError: If an argument is outside its range or the masks keep only parts of the
            pattern's groups.

    Example:

    >>> control = tfl.controls.shuffle_masks(ticket, seed=1)
    >>> control.density == ticket.density
    True
    >>> control.provenance["control"]
    [{'name': 'shuffle_masks', 'seed': 1, 'scope': 'layer', 'pattern': 'unstructured'}]
    """
    check_ticket(ticket)
    seed = check_seed(seed)
    choice("scope", scope, mask_ops.SCOPES)
    pattern = _pattern(ticket, pattern)
    before, masks_of_kernels = by_group(ticket, pattern, model)
    shapes = _matrix_shapes(before, pattern, model)
    _check_whole_groups(before, shapes, pattern)
    warn_of_masked_weights(ticket)
    kept = {path: int(np.count_nonzero(mask)) for path, mask in before.items()}
    rng = generator("shuffle_masks", seed)
    masks = masks_of_kernels(_random_masks(before, kept, rng, scope, pattern, shapes))
    arguments = {"seed": seed, "scope": scope, "pattern": str(pattern)}
    return changed(ticket, "shuffle_masks", arguments, masks, pattern=str(pattern))


def random_masks(
    ticket: Ticket,
    seed: int | list[int] = 0,
    distribution: str | Callable | dict | None = None,
    pattern: str | Pattern | None = None,
    model: SparseModel | None = None,
) -> Ticket:
    """Gives a ticket random masks of the same total density, distributed over layers as asked.

    It shows how much the density of each layer matters, which `shuffle_masks` does not change.
    See there for patterns.

    Args:
        ticket: A `Ticket`.
        seed: Integer or list of integers >= 0. Defaults to `0`.
        distribution: How the sparsity is spread over the kernels: `"uniform"`, `"erk"`, `"er"`,
            a function as in `tf_lottery.sparsity.distributions` or a dict, as in
            `tfl.sparsify`. Dicts, and functions that leave some kernels out of the budget, can
            change the total number of kept weights. Defaults to `None`: each kernel keeps as
            many as in the ticket.
        pattern: The pattern to follow, or its name. Whole groups are kept, as many as come
            closest to the density. Defaults to `None`: that in the ticket's provenance, if
            there is one.
        model: A `SparseModel`, as in `shuffle_masks`. Defaults to `None`.

    Returns:
        A `Ticket` with other masks.

    Raises:
        ValueError: If an argument is outside its range or the ticket keeps no weight.

    Example:

    >>> control = tfl.controls.random_masks(ticket, seed=1, distribution="erk")
    >>> control.density == ticket.density
    True
    """
    check_ticket(ticket)
    seed = check_seed(seed)
    pattern = _pattern(ticket, pattern)
    before, masks_of_kernels = by_group(ticket, pattern, model)
    shapes = _matrix_shapes(before, pattern, model)
    kept = _distributed(before, distribution)
    warn_of_masked_weights(ticket)
    rng = generator("random_masks", seed)
    masks = masks_of_kernels(_random_masks(before, kept, rng, "layer", pattern, shapes))
    arguments = {"seed": seed, "distribution": plain(distribution), "pattern": str(pattern)}
    return changed(ticket, "random_masks", arguments, masks, pattern=str(pattern))


def _random_masks(masks, kept, rng, scope, pattern, shapes):
    """Returns random masks with given counts.

    Args:
        masks: Dict of paths to masks, for their shapes.
        kept: Dict of paths to integers.
        rng: A `numpy.random.Generator`.
        scope: `"layer"` or `"global"`.
        pattern: A `Pattern`.
        shapes: Dict of paths to the matrix shapes of the kernels that follow the pattern. The
            other kernels are masked weight by weight.
    """
    scores = {path: score_functions.random(mask, rng=rng) for path, mask in masks.items()}
    result = {}
    free = [path for path in masks if path not in shapes]
    for group, chosen in ((list(shapes), pattern), (free, "unstructured")):
        for paths in [group] if scope == "global" else [[path] for path in group]:
            size, count = (sum(x[path] for path in paths) for x in (_sizes(masks), kept))
            # `top_k_masks` takes only sparsities below 1.
            if count == 0:
                result.update({path: np.zeros(masks[path].shape, bool) for path in paths})
                continue
            matrices = {path: scores[path].reshape(shapes.get(path, -1)) for path in paths}
            found = mask_ops.top_k_masks(
                matrices, 1 - count / size, pattern=chosen, scope="global", floor=0
            )
            result.update({path: found[path].reshape(masks[path].shape) for path in paths})
    return {path: result[path] for path in masks}


def _sizes(masks):
    return {path: mask.size for path, mask in masks.items()}


def _pattern(ticket, pattern):
    return patterns.get(pattern or ticket.provenance.get("pattern") or "unstructured")


def _matrix_shapes(masks, pattern, model):
    """Returns the matrix shapes of the kernels, or channel groups, that the pattern divides."""
    known = {}
    if model is not None and not isinstance(pattern, patterns.Channel):
        found = check_sparse_model(model).matrix_shapes
        kernels = {path: tuple(kernel.shape) for path, kernel in model.kernels.items()}
        pairs = match_paths({path: mask.shape for path, mask in masks.items()}, kernels)
        known = {path: [found[target]] for path, target in pairs.items()}
    if not pattern.structured:
        return {}
    shapes = {}
    for path, mask in masks.items():
        candidates = known.get(path, _views(mask.shape))
        fitting = [shape for shape in candidates if shape and pattern.divides(shape)]
        following = [shape for shape in fitting if pattern.holds(mask.reshape(shape))]
        if fitting:
            shapes[path] = (following or fitting)[0]
    return shapes


def _views(shape):
    """Returns the ways to see a kernel as (inputs, outputs), the usual one first."""
    splits = range(len(shape) - 1, 0, -1)
    return [(math.prod(shape[:split]), math.prod(shape[split:])) for split in splits]


def _check_whole_groups(masks, shapes, pattern):
    for path, shape in shapes.items():
        matrix = masks[path].reshape(shape)
        if not np.array_equal(pattern.expand(pattern.pool(matrix) > 0, shape), matrix):
            raise ValueError(
                "Argument `pattern` must be one that the masks follow; to shuffle single weights "
                f"pass 'unstructured'. Received: {str(pattern)!r}, but the mask of {path!r} keeps "
                "only parts of some groups"
            )


def _distributed(masks, distribution):
    """Returns how many weights each kernel is to keep."""
    sizes = _sizes(masks)
    kept = {path: int(np.count_nonzero(mask)) for path, mask in masks.items()}
    total = sum(kept.values())
    if total == 0:
        raise ValueError(
            "Argument `ticket` must keep at least one weight. Received: one of density 0"
        )
    if distribution is None:
        return kept
    shapes = {path: mask.shape for path, mask in masks.items()}
    sparsity = distributions.spread(distribution, shapes, 1 - total / sum(sizes.values()))
    exact = {path: (1 - sparsity[path]) * size for path, size in sizes.items()}
    if isinstance(distribution, dict):
        return {path: round(count) for path, count in exact.items()}
    return _rounded(exact, sizes, total)


def _rounded(exact, sizes, total):
    """Rounds counts so that they sum up to `total`, if they differ from it by rounding only."""
    counts = {path: math.floor(count + 1e-6) for path, count in exact.items()}
    difference = total - sum(counts.values())
    if abs(difference) > len(counts):
        return {path: round(count) for path, count in exact.items()}
    # The correction changes no dense kernel and takes the last weight of none.
    step, least = (1, 0) if difference > 0 else (-1, 2)
    for _ in range(abs(difference)):
        free = [path for path, count in counts.items() if least <= count < sizes[path]]
        if free:
            counts[max(free, key=lambda path: step * (exact[path] - counts[path]))] += step
    return counts
