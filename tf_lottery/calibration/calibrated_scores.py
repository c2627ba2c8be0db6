"""Pruning by what weights do to the outputs of their layers, on calibration inputs."""

import warnings

import numpy as np

from tf_lottery.calibration import obs
from tf_lottery.calibration.inputs import input_batches
from tf_lottery.calibration.least_squares import refit
from tf_lottery.calibration.walk import Walk
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.masks import named_sparsities, top_k_masks

DAMPING = 0.01
CALIBRATED = ("obs", "wanda")


def check_calibrated(scores, data, scope, sparsity, pattern):
    """Raises a `ValueError` if the arguments of `tfl.prune` do not suit scores of this kind.

    Args:
        scores: String or function.
        data: The calibration inputs, or `None`.
        scope: `"layer"` or `"global"`.
        sparsity: Float, or dict of kernel paths to floats.
        pattern: A `Pattern`.
    """
    is_calibrated = isinstance(scores, str) and scores in CALIBRATED
    if is_calibrated != (data is not None):
        raise ValueError(
            f"Argument `data` must be unlabelled inputs with scores {CALIBRATED}, and `None` with "
            f"others. Received: scores={scores!r}, data of type {type(data).__name__}"
        )
    if is_calibrated and isinstance(pattern, patterns.Channel):
        raise ValueError(
            f"Argument `pattern` must not be 'channel' with scores {scores!r}, which are those "
            "of single weights; `tfl.channel_scores` measures channels on data. "
            f"Received: pattern={str(pattern)!r}"
        )
    if is_calibrated and scope != "layer":
        raise ValueError(
            f"Argument `scope` must be 'layer' with scores {scores!r}, which compare weights "
            "of one layer. `distribution` can set one sparsity for every kernel. "
            f"Received: scope={scope!r}"
        )
    shares = sparsity.values() if isinstance(sparsity, dict) else [sparsity]
    if is_calibrated and scores == "wanda" and max(shares, default=0.0) > 0.5:
        warnings.warn(
            "Scores 'wanda' lose more than 'obs' at a sparsity above 0.5, and often more than "
            "'magnitude', since every unit loses equally many weights. Use 'obs' there.",
            stacklevel=3,
        )


def wanda_scores(model, data):
    """Returns a dict of kernel paths to scores by which every unit loses equally many weights.

    The score of a weight is the rank of `|w| * ||x||` among the inputs of its unit, x being
    its input over all examples (arXiv:2306.11695, section 3). Kernels whose inputs are not known
    get the ranks of magnitudes. All inputs are those of the network before pruning.

    Args:
        model: A `SparseModel` without soft gates.
        data: Unlabelled inputs, as in `tfl.repair`.
    """
    with model.settled() as plain:
        walk = _walk(plain, model, data)
        norms = {
            path: np.sqrt(np.diagonal(walk.moments(path).gram, axis1=1, axis2=2))
            for path in walk.matrices
        }
        scores = {}
        for path, kernel in model.get_kernels().items():
            if path in walk.matrices:
                matrix = walk.matrices[path]
                inputs = np.abs(matrix.split(kernel))
                inputs = inputs * norms[path][:, : inputs.shape[1], None]
                scores[path] = matrix.join(_ranks(inputs))
            else:
                scores[path] = _ranks(np.abs(kernel).reshape(-1, kernel.shape[-1]))
                scores[path] = scores[path].reshape(kernel.shape)
    return scores


def prune_by_obs(model, data, sparsity, *, pattern, paths, floor=1):
    """Prunes a model layer by layer with `tf_lottery.calibration.obs`, and changes its weights.

    The inputs of every layer are those in the network whose layers before it are pruned. For these
    inputs its weights are first fitted to its outputs in the network before pruning, as in
    `tfl.repair`; otherwise the errors of all layers would add up.

    Args:
        model: A `SparseModel` without soft gates.
        data: Unlabelled inputs, as in `tfl.repair`.
        sparsity: Float in [0, 1), or a dict of `paths` to floats.
        pattern: A `Pattern`.
        paths: List of the paths of the kernels to prune.
        floor: Integer >= 0, how many weights every kernel keeps at least. Defaults to `1`.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If a dict `sparsity` has other names than `paths`.
    """
    shares = named_sparsities(paths, sparsity, "layer")
    masks = model.get_masks()
    shapes = {path: model.matrix_shapes[path] or masks[path].shape for path in paths}

    def plan(path, scores):
        """Returns the mask that keeps the highest scores, in the kernel's shape."""
        ranked, before = (array.reshape(shapes[path]) for array in (scores, masks[path]))
        found = top_k_masks(ranked, shares[path], pattern=pattern, masks=before, floor=floor)
        return found.reshape(scores.shape)

    with model.settled() as plain:
        walk = _walk(plain, model, data)
        dense = dict(walk.values)
        for path in [path for path in walk.matrices if path in paths]:
            masks[path] = _prune_kernel(walk, path, dense, masks[path], plan, pattern)
    changed = [weight for m in walk.matrices.values() for weight in (m.kernel, m.bias)]
    for path in [path for path in paths if path in walk.skipped]:
        masks[path] = plan(path, np.abs(model.get_kernels()[path]))
    for weight in changed:
        if weight is not None:
            weight.assign(walk.values[id(weight)])
    model.set_masks(masks)
    if skipped := {path: why for path, why in walk.skipped.items() if path in paths}:
        warnings.warn(f"Kernels of other layers were pruned by magnitude: {skipped}.", stacklevel=3)
    return masks


def _prune_kernel(walk, path, dense, mask, plan, pattern):
    """Prunes one kernel in the walk, and returns its new mask."""
    matrix, moments = walk.matrices[path], walk.moments(path, dense)
    before = matrix.split(mask)
    weights = _fitted(walk.matrix_with_bias(matrix), moments, before)
    factors = [obs.inverse_factor(gram, DAMPING) for gram in moments.gram]
    every = slice(0, before.shape[1])
    scores = [obs.costs(w, factor, every) for w, factor in zip(weights, factors, strict=True)]
    plans = matrix.split(plan(path, matrix.join(np.array(scores))))
    found = [
        obs.prune_layer(*arrays, pattern=pattern, mask=group_mask)
        for *arrays, group_mask in zip(weights, factors, plans, before, strict=True)
    ]
    walk.assign(matrix, np.array([new for new, _ in found]))
    return matrix.join(np.array([kept for _, kept in found]))


def _fitted(weights, moments, mask):
    """Returns the weights that fit the targets best, in the groups of a layer, before pruning."""
    bias = np.ones((len(mask), weights.shape[1] - mask.shape[1], mask.shape[2]), bool)
    kept = np.concatenate([mask, bias], axis=1)
    groups = zip(moments.gram, moments.cross, weights, kept, strict=True)
    return np.array([refit(*arrays, DAMPING) for arrays in groups])


def _walk(plain, model, data):
    return Walk(plain, model.kernels, input_batches("data", data, batch_size=32))


def _ranks(scores):
    """Returns the rank of every score among the inputs of its unit, the next to last axis."""
    order = np.argsort(scores, axis=-2, kind="stable")
    return np.argsort(order, axis=-2, kind="stable").astype("float32")
