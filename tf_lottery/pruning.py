"""Makes a model sparse in one step, without training."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tf_lottery.calibration.calibrated_scores import (
    check_calibrated,
    prune_by_obs,
    wanda_scores,
)
from tf_lottery.checks import choice, fraction, natural_number
from tf_lottery.existing_zeros import adopt_zeros, warn_of_zeros
from tf_lottery.kernel_ranking import (
    advice_for_emptied,
    divided_kernels,
    kernel_scores,
    named_scores,
    of_divided,
    ranked_masks,
    target_sparsity,
    warn_of_emptied,
)
from tf_lottery.layers import Selection, SoftGate
from tf_lottery.layers.ownership import released_on_error
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.snapshot import Snapshot
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.budgets import check_budget
from tf_lottery.sparsity.groups import Group
from tf_lottery.sparsity.patterns import Pattern
from tf_lottery.structured.prunable import prunable_groups
from tf_lottery.structured.selection import masks_within_budget


def sparsify(
    model: keras.Model,
    sparsity: float = 0.0,
    *,
    budget: dict[str, float] | None = None,
    distribution: str | Callable | dict | None = None,
    pattern: Pattern | str = "unstructured",
    scores: Any = "magnitude",
    scope: str = "layer",
    include: Any = None,
    exclude: Any = None,
    floor: int = 1,
    keep_zeros: bool = False,
    gate: SoftGate | None = None,
    selection: Selection | None = None,
    groups: Sequence[Group] | None = None,
    seed: int = 0,
) -> SparseModel:
    """Wraps a model so that its kernels can be pruned, and prunes them if `sparsity` is given.

    By default, prunable kernels are those of rank two or more of dense, einsum, convolutional,
    recurrent and attention layers, and the pointwise kernels of separable convolutions, at any
    depth, in sequential, functional and subclassed models. Biases, normalization weights,
    embeddings, depthwise and frozen kernels are pruned only if `include` selects them.

    Args:
        model: A built `keras.Model`. It is wrapped, not copied. With a `sparsity` above 0, its
            pruned weights become zero; take a `tfl.Snapshot` before if they are needed later.
        sparsity: Float in [0, 1), the initial fraction of zeros. Zeros that `keep_zeros` keeps
            count too. Defaults to `0.0`: nothing is pruned yet.
        budget: Dict such as `{"flops": 0.5}`, instead of `sparsity`, with the pattern `"channel"`:
            the fraction of FLOPs or parameters that `tfl.compact` leaves; see `tfl.prune`.
            Defaults to `None`.
        distribution: How the sparsity is distributed over the kernels. `"uniform"`, `"erk"`,
            `"er"` or a function as in `tf_lottery.sparsity.distributions`, with options set by
            `functools.partial`, as in `partial(uniform, dense_first=True)`. Or a dict from paths
            or regular expressions to sparsities: the first expression that is found in a path
            counts, and kernels without one get `sparsity`. Needs `scope="layer"`. Defaults to
            `None`: uniform.
        pattern: The pattern that this and later pruning follows, or its name:
            `"unstructured"`, `"2:4"` for two of four consecutive inputs, `"4x1"` for blocks of
            four inputs by one unit, `"channel"` for whole channels, `"channel:8"` for widths
            that are multiples of 8. Kernels that it does not divide are not pruned. With an N:M
            pattern, a sparsity below that of the pattern prunes only some of the groups. Channels
            are pruned in everything that makes them, so that `tfl.compact` can remove them:
            `tfl.channel_groups(model)` shows which ones are pruned together, and which cannot
            be. Of the kernels of a group, `exclude` needs to select only one. Defaults to
            `"unstructured"`.
        scores: The weights with the lowest scores are pruned. `"magnitude"`, `"random"`, or a
            function as in `tf_lottery.sparsity.scores`; see `tfl.prune` for scores of channels.
            An untrained network that RigL or SET will train should have `"random"`, as in their
            papers. Defaults to `"magnitude"`, for networks that are trained.
        scope: `"layer"` gives every kernel the same sparsity, or that of `distribution`.
            `"global"` ranks all weights together. Defaults to `"layer"`, as everywhere, since it
            also suits untrained weights, whose magnitudes show the scale of the initializer and
            not their importance. For a trained network `"global"` is often better; see
            `tfl.prune`.
        include: Which weights to prune instead of the default: a regular expression searched
            for in `variable.path`, a layer class, a callable `(variable, layer) -> bool`, or
            a list of these. Defaults to `None`.
        exclude: Which weights not to prune, in the same form. Defaults to `None`.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see
            `tfl.prune`. Defaults to `1`.
        keep_zeros: Whether weights that are already zero stay pruned, for example in a model
            that another program has pruned. They must follow the pattern: with `"channel"`, all
            that makes the channel is zero, its bias too. Kernels that are completely zero stay
            dense, and a warning lists them. Cannot be combined with `gate`. Defaults to `False`.
            In either case a warning lists weights whose zeros training would change.
        gate: A `tfl.SoftGate`, to learn with `tfl.callbacks.ContinuousSparsification` which
            weights to prune. Weights count as kept where their gates are above 0, so the density
            is not meaningful before training. Defaults to `None`: no gates.
        selection: A `tf_lottery.layers.Selection`, for another way to learn or choose which
            weights to keep. Defaults to `None`: masks, or gates with `gate`.
        groups: Channel groups of the model for the pattern `"channel"`, as
            `tfl.channel_groups` returns them, for example with rules for custom layers. Defaults
            to `None`: those that it finds without rules.
        seed: Integer, for `scores="random"`. Defaults to `0`.

    Returns:
        A `SparseModel`. Compile it before training.

    Raises:
        ValueError: If `model` is not built, has no prunable kernel or shares weights with a
            sparse model, an argument is outside its range or fits no kernel, or existing zeros
            do not follow the pattern.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> sparse = tfl.sparsify(model, sparsity=0.75, distribution="erk")
    >>> sparse.density
    0.25
    """
    fraction("sparsity", sparsity)
    choice("scope", scope, mask_ops.GROUP_SCOPES)
    named_scores(scores)
    natural_number("floor", floor)
    pattern = patterns.get(pattern)
    if budget is not None:
        _check_one_target(sparsity or None, budget, pattern)
    if gate is not None:
        _check_beside_gate(gate, sparsity, distribution, keep_zeros, selection)
    skipped = {}
    if isinstance(pattern, patterns.Channel) and gate is None and isinstance(model, keras.Model):
        groups, skipped = prunable_groups(model, include, exclude, groups)
    sparse = SparseModel(model, include, exclude, pattern, gate, selection, groups)
    sparse.wrapper.skipped.update(skipped)
    with released_on_error(list(sparse.kernels.values()), sparse.wrapper):
        sparsity = target_sparsity(sparse, sparsity, distribution=distribution, scope=scope)
        if keep_zeros:
            adopt_zeros(check_settled(sparse))
        ranking = {"scores": scores, "scope": scope, "floor": floor, "seed": seed}
        if budget is not None:
            prune(sparse, budget=budget, distribution=distribution, **ranking)
        elif max(sparsity.values()) if isinstance(sparsity, dict) else sparsity:
            prune(sparse, sparsity, **ranking)
    warn_of_zeros(sparse)
    return sparse


def prune(
    model: SparseModel,
    sparsity: float | dict[str, float] | None = None,
    *,
    budget: dict[str, float] | None = None,
    distribution: str | Callable | dict | None = None,
    pattern: Pattern | str | None = None,
    scores: Any = "magnitude",
    scope: str = "layer",
    floor: int = 1,
    initial: dict[str, np.ndarray] | Snapshot | None = None,
    seed: int | list[int] = 0,
    data: Any = None,
) -> dict[str, np.ndarray]:
    """Prunes a sparse model once, without training.

    Pruned weights stay pruned: a sparsity below that of the model changes nothing.

    Args:
        model: A `SparseModel`.
        sparsity: Float in [0, 1), the fraction of zeros after pruning. With `scope="layer"`,
            it can be a dict of the paths of all kernels to fractions; for models with the
            pattern `"channel"`, of the names of all channel groups, those of `model.groups`.
            Defaults to `None`: `budget` is given.
        budget: Dict of `"flops"`, `"parameters"` or both to the fraction of them, in (0, 1], that
            may be left in the network without its pruned channels, which `tfl.compact` makes.
            The most channels are kept that do not exceed it. FLOPs are the products with kernels,
            as `tfl.flops` counts them. Pruned channels that `tfl.compact` must leave, such as
            those of layers with several calls and of grouped convolutions, count as removed; a
            warning lists their groups. For models with the pattern `"channel"`, without
            `distribution`. Defaults to `None`.
        distribution: How the sparsity is distributed over the kernels, with `scope="layer"`; see
            `tfl.sparsify`. Defaults to `None`: uniform.
        pattern: A pattern, or its name. Kernels that it does not divide keep their masks, and
            a warning lists them. `sparsity` then applies to the others. Defaults to `None`: the
            pattern of the model.
        scores: The weights with the lowest scores are pruned; `"magnitude"`, `"movement"`,
            `"magnitude_increase"`, `"large_final_same_sign"`, `"random"` or a function as
            in `tf_lottery.sparsity.scores`. For channel groups also `"l1"`, `"l2"` and
            `"norm_scale"`, or what `tfl.channel_scores` measures on data, a dict of the names of
            groups to one score for each channel. For trained networks also, with `data`, `"obs"`,
            which changes the kept weights to make up for the others (Optimal Brain Surgeon in the
            form of arXiv:2301.00774), and `"wanda"`, magnitudes times the norms of the inputs
            (arXiv:2306.11695), up to a sparsity of 0.5. Defaults to `"magnitude"`.
        scope: `"layer"` ranks each kernel separately, which suits untrained and small networks
            (arXiv:1803.03635). `"global"` ranks all weights together, so that layers with many
            unimportant weights are pruned more. The papers use it for deep trained networks
            (arXiv:1912.05671). `"isomorphic"` ranks the channels of like groups together
            (arXiv:2407.04616), see `tf_lottery.sparsity.group_scores.kind_of`. Defaults to
            `"layer"`.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps. They are
            those with the highest scores, in whole groups of the pattern. With `scope="global"`
            other kernels keep fewer, so that the total is exact. Empty kernels stay empty. With
            `0`, pruning can empty kernels, but no channel group. Defaults to `1`.
        initial: Dict of kernel paths to the weights before training, or a `Snapshot`, for
            scores that compare with them. Defaults to `None`.
        seed: Integer or list of integers, for `scores="random"`. Defaults to `0`.
        data: Some hundred or thousand unlabelled inputs for `"obs"` and `"wanda"`, as in
            `tfl.repair`, which can follow. Defaults to `None`.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> masks = tfl.prune(sparse, sparsity=0.8, scope="global")
    """
    check_settled(model)
    pattern = model.pattern if pattern is None else patterns.get(pattern)
    _check_one_target(sparsity, budget, pattern)
    if budget is None:
        sparsity = target_sparsity(
            model, sparsity, distribution=distribution, scope=scope, pattern=pattern
        )
    else:
        _check_beside_budget(model, pattern, distribution, scope, floor)
    check_calibrated(scores, data, scope, sparsity, pattern)
    if data is None:
        values = kernel_scores(model, scores, initial=initial, seed=seed, pattern=pattern)
    elif scores == "wanda":
        values = wanda_scores(model, data)
    else:
        paths, _ = divided_kernels(model, pattern, stacklevel=3)
        sparsity = of_divided(sparsity, paths, model.kernels)
        return prune_by_obs(model, data, sparsity, pattern=pattern, paths=paths, floor=floor)
    if budget is not None:
        masks = masks_within_budget(
            model, values, budget, pattern=pattern, scope=scope, floor=floor
        )
    else:
        masks = ranked_masks(model, values, sparsity, pattern=pattern, scope=scope, floor=floor)
    warn_of_emptied(model.get_masks(), masks, advice_for_emptied(floor))
    model.set_masks(masks)
    return masks


def _check_one_target(sparsity, budget, pattern):
    """Raises a `ValueError` unless there is either a sparsity or a budget that suits a pattern."""
    if (sparsity is None) == (budget is None):
        raise ValueError(
            "Exactly one of the arguments `sparsity` and `budget` must be given. "
            f"Received: sparsity={sparsity}, budget={budget}"
        )
    if budget is not None:
        check_budget(budget)
        if not isinstance(pattern, patterns.Channel):
            raise ValueError(
                "Argument `budget` must be `None` unless whole channels are pruned, which a "
                "network without them is smaller by: use `pattern='channel'`. "
                f"Received: budget={budget}, pattern='{pattern}'"
            )


def _check_beside_gate(gate, sparsity, distribution, keep_zeros, selection):
    """Raises a `ValueError` if anything but the gates would decide what is pruned."""
    if sparsity or distribution is not None or keep_zeros or selection:
        raise ValueError(
            "Argument `gate` excludes `sparsity`, `distribution`, `keep_zeros` and `selection`: "
            "gates learn what to prune. Set `target_density` of "
            "`tfl.callbacks.ContinuousSparsification`. "
            f"Received: gate={gate}, sparsity={sparsity}, distribution={distribution!r}, "
            f"keep_zeros={keep_zeros}, selection={selection!r}"
        )


def check_reachable(model, budget, *, pattern=None, floor=1):
    """Raises a `ValueError` if a model cannot be pruned to a budget.

    Args:
        model: A `SparseModel`.
        budget: See `prune`.
        pattern: A `Pattern`. Defaults to `None`: that of the model.
        floor: See `prune`. Defaults to `1`.
    """
    pattern = model.pattern if pattern is None else pattern
    _check_one_target(None, budget, pattern)
    divided_kernels(model, pattern)
    masks_within_budget(
        model, kernel_scores(model), budget, pattern=pattern, scope="layer", floor=floor
    )


def _check_beside_budget(model, pattern, distribution, scope, floor):
    """Raises a `ValueError` if other arguments of `prune` do not suit a budget."""
    choice("scope", scope, mask_ops.GROUP_SCOPES)
    natural_number("floor", floor)
    if distribution is not None:
        raise ValueError(
            "Argument `distribution` must be `None` with `budget`, which all groups meet together; "
            "with `sparsity` it can set that of each group. "
            f"Received: distribution={distribution!r}"
        )
    divided_kernels(model, pattern)
