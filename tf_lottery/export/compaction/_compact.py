"""Removes dead units and channels from a model: `tfl.compact`."""

import keras

from tf_lottery import checks
from tf_lottery._keras import all_layers
from tf_lottery._strip import settled
from tf_lottery.export.compaction.analysis import analyze
from tf_lottery.export.compaction.rebuild import rebuild
from tf_lottery.export.compaction.report import CompactionReport, LayerRow
from tf_lottery.model import SparseModel
from tf_lottery.structured.exact_graph import exact_graph, objection
from tf_lottery.structured.graph import is_graph
from tf_lottery.structured.removal import reasons_in_graph


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
    `EinsumDense` become smaller, and so do nested models, `Bidirectional`, `TimeDistributed` and
    recurrent layers, whose units go if they stay at zero or if no other unit and no later layer
    reads them. Grouped convolutions keep as many channels in every group. `MultiHeadAttention`
    and `GroupQueryAttention` lose heads, and entries of keys and values that are dead in all
    heads; on JAX, which needs keys and values of the same width, as many of both. Layers and
    models with several calls lose what is dead in all of them.

    Layers of other kinds stay as they are if nothing in them is dead. Otherwise the smaller model
    has, in place of the layer, the layers and functions of `keras.ops` that its `call` uses at
    inference, if only layers in it have weights; what it does only in training, such as adding
    losses, is gone. A layer whose config does not make another one is not copied: both models
    have it and share its weights, unless something in it is dead or masks are applied to it; then
    it is replaced in the same way. The report lists the layers that are shared or replaced.

    What cannot be removed exactly stays, and the report says why: a constant other than zero that
    enters a convolution with padding, layers that mix their channels, layers with weights of
    their own. Inputs and outputs of the model keep their shapes, and every layer keeps at least
    one unit. The names of inputs and outputs stay too, unless the model is subclassed or the layer
    that makes the output is replaced.

    Args:
        model: A `SparseModel` or a built Keras model. It is not changed. The `call` of a
            subclassed model is followed through the layers and functions of `keras.ops` that it
            uses at inference, and the smaller model is a functional one.
        multiple_of: Integer > 0. Widths are rounded up to a multiple of it by keeping dead
            units, if there are enough. Defaults to `1`.
        gather_inputs: Whether layers that read the model's inputs first select the inputs that
            have weights, with `keras.ops.take`. A Sequential model then becomes a functional
            one. Defaults to `False`.

    Returns:
        Pair of the smaller model and a `CompactionReport`. The model is plain Keras and not
        compiled, and its stateful layers are in their initial states.

    Raises:
        ValueError: If `model` is not a built model, is subclassed and cannot be followed, or has
            a layer that needs to change and cannot be copied.

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
        graph, without_rule = exact_graph(plain)
        _check_followed(plain, graph)
        kept = analyze(graph, multiple_of, gather_inputs)
        rebuilt = rebuild(plain, graph, _masked_variables(model))
    stays = {}
    if isinstance(model, SparseModel) and model.groups:
        members = model.wrapper.named_members()
        reasons = reasons_in_graph(graph, without_rule, model.groups, members)
        live = model.kept_channels()
        stays = {name: reason for name, reason in reasons.items() if not live[name].all()}
    report = CompactionReport(
        model.name,
        _rows(graph, rebuilt.layers),
        {node.path: int(node.gathered.sum()) for node in graph.nodes if node.gathered is not None},
        kept,
        {node.path: reason for node, reason in without_rule.items() if _has_channels(node)},
        [layer.name for layer in rebuilt.reused],
        stays,
        rebuilt.replaced,
    )
    return rebuilt.model, report


def _masked_variables(model):
    """Returns the variables that have other values while the masks are applied to them."""
    if not isinstance(model, SparseModel):
        return []
    return [*model.kernels.values(), *model.wrapper.named_members().values()]


def _has_channels(node):
    return any(x.width for x in [*node.inputs, *node.extras, *node.outputs])


def _rows(graph, new):
    """Returns a row for each layer with weights, or for the layer that was copied with it."""
    rows = {}
    for node in graph.nodes:
        whole = [owner for owner in node.owners if id(owner.operation) in new]
        call = whole[0] if whole else node
        layer, outputs = call.operation, call.outputs
        if id(layer) not in rows and getattr(layer, "weights", None):
            units = outputs[0].width, int(outputs[0].kept.sum())
            weights = layer.count_params(), new[id(layer)].count_params()
            rows[id(layer)] = LayerRow(call.path, *units, *weights)
    # A model that is called in two ways is a layer with weights, and so are the layers inside it.
    inside = {id(part) for key in rows for part in all_layers(new[key])[1:]}
    return [row for key, row in rows.items() if id(new[key]) not in inside]


def _check_model(model):
    expected = "Argument `model` must be a `SparseModel` or a built Keras model"
    if isinstance(model, keras.Sequential) and not getattr(model, "inputs", None):
        expected += "; start it with a `keras.Input` or call `model.build(input_shape)`"
    elif isinstance(model, keras.Model) and model.built:
        return
    raise ValueError(f"{expected}. Received: model={model!r}")


def _check_followed(model, graph):
    """Raises if a subclassed model cannot be replaced by the calls that it makes."""
    reason = "" if is_graph(model) else objection(model, graph.scan)
    if reason:
        raise ValueError(
            "Argument `model` must have all its weights in layers that its `call` calls with its "
            "inputs, and pass on `training` as it is, if it is subclassed. "
            f"Received: model={model!r}; {reason}"
        )
