"""Removes dead units and channels from a model: `tfl.compact`."""

import keras

from tf_lottery import checks
from tf_lottery._strip import settled
from tf_lottery.export.compaction.analysis import analyze
from tf_lottery.export.compaction.rebuild import rebuild
from tf_lottery.export.compaction.report import CompactionReport, LayerRow
from tf_lottery.model import SparseModel
from tf_lottery.structured.graph import Graph, is_graph


def compact(
    model: keras.Model, multiple_of: int = 1, gather_inputs: bool = False
) -> tuple[keras.Model, CompactionReport]:
    """Removes the units and channels of a model that pruning left dead.

    A unit is dead if all weights that read it are zero, or if all its own weights are zero. In
    the second case its value is a constant, which is added to the biases of the layers that
    follow, also behind activations, batch normalization, pooling and reshaping. This is
    repeated until no dead unit is left. The smaller model computes the same outputs at
    inference, up to rounding.

    Dense, convolutional, depthwise, separable, embedding and batch normalization layers and
    `EinsumDense` become smaller, and so do nested models and recurrent layers, whose units go if
    they stay at zero or if no other unit and no later layer reads them. `MultiHeadAttention` loses
    heads, and entries of keys and values that are dead in all heads; on JAX, which needs keys and
    values of the same width, as many of both. What cannot be removed exactly stays, and the report
    says why: a constant other than zero that enters a convolution with padding, layers that mix
    their channels, layers with several calls, layers of other kinds. Inputs and outputs of the
    model keep their shapes and names, and every layer keeps at least one unit.

    Args:
        model: A `SparseModel`, or a built `keras.Sequential` or functional model. It is not
            changed.
        multiple_of: Integer > 0. Widths are rounded up to a multiple of it by keeping dead
            units, if there are enough. Defaults to `1`.
        gather_inputs: Whether layers that read the model's inputs first select the inputs that
            have weights, with `keras.ops.take`. A Sequential model then becomes a functional
            one. Defaults to `False`.

    Returns:
        Pair of the smaller model and a `CompactionReport`. The model is plain Keras and not
        compiled, and its stateful layers are in their initial states.

    Raises:
        ValueError: If `model` is not a built Sequential or functional model, for example
            subclassed, or has a layer that cannot be copied.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> model.layers[1].set_weights([np.array([[1, 2], [0, 0], [3, 4]]), np.zeros(2)])
    >>> smaller, report = tfl.compact(model)
    >>> smaller.layers[0].units, report.parameters_before, report.parameters_after
    (2, 23, 16)
    """
    checks.positive_integer("multiple_of", multiple_of)
    if not isinstance(gather_inputs, bool):
        raise ValueError(
            f"Argument `gather_inputs` must be a boolean. Received: gather_inputs={gather_inputs!r}"
        )
    _check_model(model.model if isinstance(model, SparseModel) else model)
    with settled(model) as plain:
        return _compacted(plain, multiple_of, gather_inputs)


def _compacted(model, multiple_of, gather_inputs):
    """Returns a model without its dead units, and the report."""
    graph = Graph(model)
    left_alone, kept = analyze(graph, multiple_of, gather_inputs)
    smaller, new = rebuild(model, graph)
    rows = {
        id(node.operation): _row(node, new[id(node.operation)])
        for node in graph.nodes
        if getattr(node.operation, "weights", None)
    }
    gathered = {n.path: int(n.gathered.sum()) for n in graph.nodes if n.gathered is not None}
    report = CompactionReport(model.name, list(rows.values()), gathered, kept, left_alone)
    return smaller, report


def _row(node, new):
    before = node.outputs[0]
    units = before.width, int(before.kept.sum())
    return LayerRow(node.path, *units, node.operation.count_params(), new.count_params())


def _check_model(model):
    if is_graph(model):
        return
    expected = "Argument `model` must be a `SparseModel` or a built Sequential or functional model"
    if isinstance(model, keras.Sequential) and not getattr(model, "inputs", None):
        expected += "; start it with a `keras.Input` or call `model.build(input_shape)`"
    elif isinstance(model, keras.Model):
        expected += ": units are removed from a graph of layers, which a subclassed model lacks"
    raise ValueError(f"{expected}. Received: model={model!r}")
