"""Goes through a network layer by layer, with what the layers get from calibration inputs."""

import contextlib
import dataclasses
import itertools
import math

import keras
import numpy as np
from keras import ops

from tf_lottery import _keras, hosts
from tf_lottery.calibration.layer_matrices import LayerMatrix, layer_matrix
from tf_lottery.layers import functional_call
from tf_lottery.layers.interception import intercepted
from tf_lottery.layers.weights import owners_of_weights, shared_weights

IS_SHARED = "several layers share it"
NOT_CALLED = "its layer is not called"
# What the targets of several layers may take, which one pass through the reference finds.
TARGET_BYTES = 2**28
NOT_COMPUTED = "its layer is called inside a loop or compiled function, which hides its inputs"


class _Reached(BaseException):
    """Ends a call of a model when a layer has got all its inputs.

    Keras replaces exceptions that leave a layer, but not a `BaseException`.
    """


@dataclasses.dataclass
class Moments:
    """Sums over all inputs of a layer, from which least squares are computed.

    With a bias, a column of ones follows the inputs. Arrays have a leading axis of groups.

    Args:
        count: Integer, the number of rows.
        gram: Array (groups, inputs, inputs), the products of the inputs with each other.
        cross: Array (groups, inputs, units), the products with the targets. `None` without.
        squares: Array (groups, units), the sums of the squared targets. `None` without.
    """

    count: int = 0
    gram: np.ndarray | None = None
    cross: np.ndarray | None = None
    squares: np.ndarray | None = None

    def add(self, rows, targets=None):
        """Adds rows (groups, rows, inputs) and their targets (groups, rows, units)."""
        transposed = rows.swapaxes(1, 2)
        self.count += rows.shape[1]
        self.gram = _sum(self.gram, transposed @ rows)
        if targets is not None:
            self.cross = _sum(self.cross, transposed @ targets)
            self.squares = _sum(self.squares, np.square(targets).sum(axis=1))


class Walk:
    """The layers of a model in the order of their calls, and the inputs that they get.

    The model does not change: `values` holds the weights with which it is called.

    Args:
        model: A built `keras.Model`, plain.
        kernels: Dict of names to variables of the model.
        batches: List of batches of inputs.

    Attributes:
        matrices: Dict of the names of kernels to `LayerMatrix`, in the order of the calls.
        skipped: Dict of the names of other kernels to the reason.
        values: Dict of the `id` of every weight to an array.
    """

    def __init__(self, model, kernels, batches):
        self.model = model
        self.batches = batches
        self.values = {id(w): hosts.to_numpy(w).copy() for w in model.weights}
        owners, shared = owners_of_weights(model), shared_weights(model)
        found = {
            name: IS_SHARED if id(v) in shared else layer_matrix(owners[id(v)], v)
            for name, v in kernels.items()
        }
        self.skipped = {name: why for name, why in found.items() if isinstance(why, str)}
        found = {name: m for name, m in found.items() if name not in self.skipped}
        self._calls, self._sizes = self._count_calls([matrix.layer for matrix in found.values()])
        self._reference, self._targets = None, {}
        order = list(self._calls)
        for name, matrix in found.items():
            if self._calls.get(id(matrix.layer), 0) < 1:
                is_hidden = id(matrix.layer) in self._calls
                self.skipped[name] = NOT_COMPUTED if is_hidden else NOT_CALLED
        found = {name: m for name, m in found.items() if name not in self.skipped}
        self.matrices = dict(sorted(found.items(), key=lambda pair: order.index(id(pair[1].layer))))
        # A bias that is masked, or that other layers need as it is, does not change.
        fixed = shared | {id(kernel) for kernel in kernels.values()}
        for matrix in self.matrices.values():
            if id(matrix.bias) in fixed:
                matrix.bias = None

    def matrix_with_bias(self, matrix: LayerMatrix, values=None):
        """Returns the weights of a layer as (groups, inputs, units), a bias as the last input.

        Args:
            matrix: One of `matrices`.
            values: Dict like `values`. Defaults to `None`: `values`.
        """
        values = self.values if values is None else values
        kernel = _precise(matrix.split(values[id(matrix.kernel)]))
        if matrix.bias is None:
            return kernel
        return np.concatenate([kernel, matrix.split_bias(values[id(matrix.bias)])], axis=1)

    def assign(self, matrix, weights):
        """Sets the weights of a layer in `values`.

        Args:
            matrix: One of `matrices`.
            weights: Array as `matrix_with_bias` returns it.
        """
        inputs = weights.shape[1] - (matrix.bias is not None)
        arrays = [(matrix.kernel, matrix.join(weights[:, :inputs]))]
        if matrix.bias is not None:
            arrays.append((matrix.bias, matrix.join_bias(weights[:, inputs:])))
        for variable, array in arrays:
            self.values[id(variable)] = array.astype(self.values[id(variable)].dtype)

    def moments(self, name, reference=None):
        """Returns the `Moments` of a layer's inputs in the network with `values`.

        Args:
            name: String, the name of a kernel.
            reference: Dict like `values`, of the network whose outputs of this layer, before the
                activation, are the targets. Defaults to `None`: no targets.

        Raises:
            ValueError: If an input of the layer is not finite.
        """
        matrix, moments = self.matrices[name], Moments()
        targets = itertools.repeat(None) if reference is None else self._targets_of(name, reference)
        tensors = self._tensors(self.values)
        # The targets of a batch come before its rows, since those of a large image are many.
        for wanted, batch in zip(targets, self.batches, strict=False):
            (rows,) = self._visit([matrix], batch, tensors, lambda rows, matrix: rows)
            with np.errstate(invalid="ignore", over="ignore"):
                moments.add(rows, wanted)
        sums = (moments.gram, moments.cross)
        if not all(np.isfinite(array).all() for array in sums if array is not None):
            raise ValueError(
                "Argument `model` must compute finite activations. Received: NaN or infinity at "
                f"the inputs or outputs of the layer with {name!r}"
            )
        return moments

    def _targets_of(self, name, reference):
        """Returns the outputs of a layer in the reference, an array for every batch.

        Those of the layers after it are found in the same pass if there is memory for them. Those
        of a single layer are made when they are asked for.
        """
        if self._reference is not reference:
            self._reference, self._targets = reference, {}
        if name not in self._targets:
            names = self._names_that_fit(name)
            matrices, tensors = [self.matrices[n] for n in names], self._tensors(reference)
            weights = {id(m): self.matrix_with_bias(m, reference) for m in matrices}

            def multiply(rows, matrix):
                with np.errstate(invalid="ignore", over="ignore"):
                    return rows @ weights[id(matrix)].astype(rows.dtype)

            passes = (self._visit(matrices, batch, tensors, multiply) for batch in self.batches)
            if len(names) == 1:
                return (found for (found,) in passes)
            self._targets = dict(zip(names, zip(*passes, strict=True), strict=True))
        return self._targets.pop(name)

    def _names_that_fit(self, name):
        """Returns a name and those after it whose targets fit in `TARGET_BYTES` together."""
        names = list(self.matrices)
        names = names[names.index(name) :]
        floats = [self._sizes[id(self.matrices[n].layer)] * len(self.batches) for n in names]
        fits = [4 * total <= TARGET_BYTES for total in itertools.accumulate(floats)]
        return names[: max(sum(fits), 1)]

    def _visit(self, matrices, batch, tensors, use):
        """Returns what a function makes of the inputs of layers, an array for every layer.

        The call of the model ends at the last of them.

        Args:
            matrices: List of `LayerMatrix`.
            batch: A batch of inputs.
            tensors: The result of `_tensors`.
            use: Function of the rows of a call, with a column of ones for a bias, and the
                `LayerMatrix` to an array (groups, rows, ...).
        """
        found = [[] for _ in matrices]
        left = sum(self._calls[id(matrix.layer)] for matrix in matrices)

        def recording(matrix, results):
            def wrap(call):
                def record(*args, **kwargs):
                    nonlocal left
                    rows = matrix.rows(_first_input(args, kwargs))
                    results.append(use(_with_ones(rows, matrix), matrix))
                    left -= 1
                    if not left:
                        raise _Reached
                    return call(*args, **kwargs)

                return record

            return wrap

        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(_Reached))
            for matrix, results in zip(matrices, found, strict=True):
                stack.enter_context(intercepted(matrix.layer, recording(matrix, results)))
            self._call(tensors, batch)
        return [parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1) for parts in found]

    def _count_calls(self, layers):
        """Returns two dicts of the `id` of every layer that is called.

        The first has the number of its calls, below 0 if the inputs of a call cannot be read; the
        second the number of its outputs for the first batch.
        """
        counts, sizes = {}, {}

        def counting(layer):
            def wrap(call):
                def count(*args, **kwargs):
                    step = 1 if _is_readable(_first_input(args, kwargs)) else -np.inf
                    counts[id(layer)] = counts.get(id(layer), 0) + step
                    outputs = call(*args, **kwargs)
                    if step == 1:
                        # A layer of the user's own may have outputs beside the product.
                        size = math.prod(keras.tree.flatten(outputs)[0].shape)
                        sizes[id(layer)] = sizes.get(id(layer), 0) + size
                    return outputs

                return count

            return wrap

        with contextlib.ExitStack() as stack:
            for layer in {id(layer): layer for layer in layers}.values():
                stack.enter_context(intercepted(layer, counting(layer)))
            self._call(self._tensors(self.values), self.batches[0])
        return counts, sizes

    def _tensors(self, values):
        """Returns pairs of the weights of the model and their values as tensors."""
        weights = [w for w in self.model.weights if keras.backend.is_float_dtype(w.dtype)]
        # Tensors instead of trainable variables, so that PyTorch keeps no graph.
        return [(w, ops.convert_to_tensor(values[id(w)], w.dtype)) for w in weights]

    def _call(self, tensors, batch):
        return functional_call(self.model, tensors, batch, training=False)


def _with_ones(rows, matrix):
    if matrix.bias is None:
        return rows
    return np.concatenate([rows, np.ones((*rows.shape[:2], 1), rows.dtype)], axis=2)


def _first_input(args, kwargs):
    return keras.tree.flatten(args[0] if args else next(iter(kwargs.values())))[0]


def _is_readable(tensor):
    if _keras.is_symbolic():
        return False
    try:
        hosts.to_numpy(tensor)
    except Exception:  # Every backend has an error of its own for a tensor without a value.
        return False
    return True


def _precise(array):
    return array if array.dtype == "float64" else array.astype("float32")


def _sum(total, array):
    # In double precision, since a sum over millions of rows is inexact, and in place, since the
    # products of the inputs of one layer can take hundreds of megabytes.
    if total is None:
        return array.astype("float64")
    total += array
    return total
