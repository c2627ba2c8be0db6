import json

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.calibration import walk

LINEAR = {
    "dense": ((5,), lambda: layers.Dense(3)),
    "dense of sequences": ((4, 5), lambda: layers.Dense(3)),
    "query": ((4, 5), lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")),
    "attention output": (
        (4, 2, 3),
        lambda: layers.EinsumDense("abcd,cde->abe", (None, 5), bias_axes="e"),
    ),
    "ellipsis": ((4, 5), lambda: layers.EinsumDense("...x,xy->...y", 3, bias_axes="y")),
    "conv1d": ((9, 2), lambda: layers.Conv1D(3, 3, strides=2, padding="same")),
    "causal": ((7, 2), lambda: layers.Conv1D(3, 2, dilation_rate=2, padding="causal")),
    "conv2d": ((5, 6, 2), lambda: layers.Conv2D(3, (2, 3), padding="same")),
    "strides": ((7, 6, 2), lambda: layers.Conv2D(3, 3, strides=(3, 2), padding="valid")),
    "dilation": ((7, 6, 2), lambda: layers.Conv2D(2, 3, dilation_rate=(1, 2), padding="same")),
    "groups": ((5, 5, 4), lambda: layers.Conv2D(6, 2, groups=2, padding="same")),
    "conv3d": ((3, 4, 3, 2), lambda: layers.Conv3D(2, 2, strides=2, padding="same")),
    "separable": ((5, 5, 3), lambda: layers.SeparableConv2D(4, 2, strides=2, padding="same")),
    "separable1d": ((6, 3), lambda: layers.SeparableConv1D(4, 2, dilation_rate=2)),
}


def random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))


def with_one(variable):
    """Yields arrays of a variable's shape that are 1 at one position and 0 elsewhere."""
    for i in range(np.size(variable)):
        yield np.eye(1, np.size(variable), i).reshape(variable.shape)


def outputs_for(layer, variable, x):
    """Returns what a layer without other weights adds to its outputs for every weight."""
    zero = layer.bias if variable is not layer.bias else kernel_of(layer)
    before = [np.array(weight) for weight in (zero, variable)]
    zero.assign(np.zeros(zero.shape))
    found = []
    for value in with_one(variable):
        variable.assign(value)
        found.append(keras.ops.convert_to_numpy(layer(x)).reshape(-1).astype("float64"))
    for weight, value in zip((zero, variable), before, strict=True):
        weight.assign(value)
    return np.array(found)


def kernel_of(layer):
    return layer.pointwise_kernel if hasattr(layer, "pointwise_kernel") else layer.kernel


def fitted_by_force(layer, x, kernel, mask, bias, ridge, match_variances):
    """Returns the kernel and bias, from the outputs that every single weight causes.

    The old kernel has zeros where it is pruned, and the targets are the outputs of `kernel`. With
    `match_variances` the outputs of a unit get the mean and standard deviation of its targets.
    """
    columns = outputs_for(layer, kernel_of(layer), x)
    units = outputs_for(layer, layer.bias, x) != 0
    targets = kernel.reshape(-1) @ columns + bias.reshape(-1) @ units
    new_kernel, new_bias = np.zeros(kernel.size), bias.reshape(-1).astype("float64")
    for unit, places in enumerate(units):
        own = np.flatnonzero((columns[:, places] != 0).any(axis=1))
        kept = [i for i in own if mask.reshape(-1)[i]]
        count = places.sum()
        squares = np.square(columns[own][:, places]).sum() + count
        strength = ridge * squares / (len(own) + 1)
        inputs = np.vstack([columns[kept][:, places], np.ones(count)]).T
        old = np.append(kernel.reshape(-1)[kept], bias.reshape(-1)[unit])
        products = inputs.T @ inputs + strength * np.eye(len(old))
        found = np.linalg.solve(products, inputs.T @ targets[places] + strength * old)
        if match_variances:
            outputs, wanted = inputs[:, :-1] @ found[:-1], targets[places]
            found[:-1] *= wanted.std() / outputs.std()
            found[-1] = wanted.mean() - outputs.mean() * wanted.std() / outputs.std()
        new_kernel[kept], new_bias[unit] = found[:-1], found[-1]
    return new_kernel.reshape(kernel.shape), new_bias.reshape(bias.shape)


@pytest.mark.parametrize(
    ("kind", "match_variances"),
    [*((kind, True) for kind in LINEAR), ("dense", False), ("conv2d", False)],
)
def test_equals_least_squares_by_force(kind, match_variances):
    shape, make = LINEAR[kind]
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer, layers.Activation("tanh")])
    random_weights(model)
    x = np.random.default_rng(1).normal(size=(7, *shape)).astype("float32")
    kernel, bias = np.array(kernel_of(layer)), np.array(layer.bias)
    mask = np.random.default_rng(2).random(kernel.shape) < 0.6
    settings = {"ridge": 0.1, "match_variances": match_variances}
    expected = fitted_by_force(layer, x, kernel, mask, bias, **settings)
    sparse = tfl.sparsify(model)
    before = tfl.Snapshot(sparse)
    (path,) = sparse.kernels
    sparse.set_masks({path: mask})
    report = tfl.repair(sparse, x, reference=before, batch_size=3, **settings)
    np.testing.assert_allclose(kernel_of(layer), expected[0], atol=1e-5)
    np.testing.assert_allclose(layer.bias, expected[1], atol=1e-5)
    (row,) = report.rows
    assert row.path == path
    assert row.error_after > 0
    assert match_variances or row.error_after < row.error_before
    rose = row.error_after - row.error_before > 1e-4
    assert ("match_variances" in str(report)) == rose


def two_layers(**kwargs):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "relu", name="hidden"),
            *([layers.BatchNormalization(name="norm")] if kwargs.pop("norm", False) else []),
            layers.Dense(2, name="output", **kwargs),
        ],
        name="net",
    )
    random_weights(model)
    return model


def data(size=40):
    return np.random.default_rng(3).normal(size=(size, 6)).astype("float32")


def pruned(model, sparsity=0.5, **kwargs):
    sparse = tfl.sparsify(model)
    before = tfl.Snapshot(sparse)
    tfl.prune(sparse, sparsity, **kwargs)
    return sparse, before


@pytest.mark.backend
def test_second_layer_gets_the_inputs_of_the_repaired_first_one():
    model = two_layers(use_bias=False)
    x = data()
    first, bias, second = (np.array(weight, "float64") for weight in model.weights)
    targets = np.maximum(x @ first + bias, 0) @ second
    sparse, before = pruned(model)
    tfl.repair(sparse, x, reference=before, ridge=0.01, match_variances=False)
    inputs = np.maximum(x @ np.array(model.weights[0]) + np.array(model.weights[1]), 0)
    mask = sparse.get_masks()[model.weights[2].path]
    for unit in range(2):
        kept = mask[:, unit]
        products = inputs.T @ inputs
        strength = 0.01 * np.trace(products) / 5
        expected = np.linalg.solve(
            products[np.ix_(kept, kept)] + strength * np.eye(kept.sum()),
            inputs[:, kept].T @ targets[:, unit] + strength * second[kept, unit],
        )
        np.testing.assert_allclose(np.array(model.weights[2])[kept, unit], expected, rtol=1e-4)
    np.testing.assert_array_equal(np.array(model.weights[2])[~mask], 0.0)


def test_dense_network_stays_and_calls_count_together():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    model = keras.Model(inputs, layers.Dense(2, name="top")(shared(shared(inputs))))
    random_weights(model)
    before = [np.array(weight) for weight in model.weights]
    sparse = tfl.sparsify(model)
    report = tfl.repair(sparse, data()[:, :4], reference=tfl.Snapshot(sparse))
    assert [row.path for row in report.rows] == ["shared/kernel", "top/kernel"]
    assert max(row.error_after for row in report.rows) < 1e-6
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_allclose(weight, value, atol=1e-4)


def test_targets_of_several_layers_come_from_one_pass(monkeypatch):
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    hidden = layers.Dense(5, "relu", name="hidden")(shared(shared(inputs)))
    model = keras.Model(inputs, layers.Dense(2, name="top")(hidden))
    random_weights(model)
    sparse, before = pruned(model)
    masked, passes, found = tfl.Snapshot(sparse), [], []
    call = walk.Walk._call
    monkeypatch.setattr(walk.Walk, "_call", lambda *args: passes.append(1) or call(*args))
    # Of 40 examples in batches of 20: the outputs of two layers, or of all.
    for limit in (0, 4 * 40 * 13, 2**20):
        masked.restore(sparse)
        monkeypatch.setattr(walk, "TARGET_BYTES", limit)
        passes.clear()
        report = tfl.repair(sparse, data()[:, :4], reference=before, batch_size=20)
        found.append((report.rows, [np.array(weight) for weight in model.weights], len(passes)))
    for rows, weights, _ in found[1:]:
        assert rows == found[0][0]
        for weight, expected in zip(weights, found[0][1], strict=True):
            np.testing.assert_array_equal(weight, expected)
    # A pass to count the calls; every layer's inputs; the targets.
    assert [count for _, _, count in found] == [1 + 6 + 6, 1 + 6 + 4, 1 + 6 + 2]


class DenseAndInputs(layers.Dense):
    def call(self, inputs):
        return super().call(inputs), inputs

    def compute_output_shape(self, input_shape):
        return super().compute_output_shape(input_shape), input_shape


def test_layers_may_return_more_than_their_product():
    inputs = keras.Input((6,))
    outputs, _ = DenseAndInputs(5)(inputs)
    model = keras.Model(inputs, outputs)
    random_weights(model)
    sparse, before = pruned(model)
    report = tfl.repair(sparse, data(), reference=before, match_variances=False)
    assert report.rows[0].error_after < report.rows[0].error_before


def test_unit_without_weights_keeps_its_bias():
    model = two_layers()
    sparse, before = pruned(model)
    dead = np.array([True, False, False, True, False])
    sparse.set_masks({"net/hidden/kernel": np.ones((6, 5), bool) & ~dead})
    bias = np.array(model.weights[1])
    tfl.repair(sparse, data(), reference=before)
    np.testing.assert_array_equal(np.array(model.weights[1])[dead], bias[dead])
    assert not np.array_equal(np.array(model.weights[1])[~dead], bias[~dead])


def test_outputs_without_bias_get_the_mean_square_of_the_dense_network():
    model = two_layers(use_bias=False)
    x = data()
    dense = np.array(model(x))
    sparse, before = pruned(model)
    tfl.repair(sparse, x, reference=before)
    squares = [np.square(np.array(outputs)).mean(axis=0) for outputs in (sparse(x), dense)]
    np.testing.assert_allclose(*squares, rtol=1e-4)


def test_statistics_are_measured_anew():
    model = two_layers(norm=True)
    random_weights(model)
    norm = model.get_layer("norm")
    norm.moving_variance.assign(np.ones(5))
    sparse, before = pruned(model)
    x = data()
    tfl.repair(sparse, x, reference=before, batch_size=40)
    hidden = np.maximum(x @ np.array(model.weights[0]) + np.array(model.weights[1]), 0)
    np.testing.assert_allclose(norm.moving_mean, hidden.mean(axis=0), rtol=1e-4)
    before.restore(sparse)
    tfl.prune(sparse, 0.5)
    tfl.repair(sparse, x, reference=before, batch_statistics=False)
    np.testing.assert_array_equal(norm.moving_variance, np.ones(5))


@pytest.mark.parametrize("kind", ["recurrent", "attention", "subclassed", "dict_inputs"])
def test_models_of_every_kind(make_model, make_data, kind):
    model = make_model(kind)
    sparse, before = pruned(model, 0.5)
    x, y = make_data(kind)
    stored = [np.array(weight) for weight in model.weights]
    report = tfl.repair(sparse, x, reference=before, match_variances=False)
    changed = [
        weight.path
        for weight, value in zip(model.weights, stored, strict=True)
        if not np.array_equal(weight, value)
    ]
    assert {row.path for row in report.rows} | set(report.skipped) == set(sparse.kernels)
    assert {row.path for row in report.rows} == {path for path in changed if "kernel" in path}
    assert ("GRUCell" in str(report.skipped)) == (kind == "recurrent")
    assert all(row.error_after < row.error_before for row in report.rows)
    for path, mask in sparse.get_masks().items():
        assert not np.array(sparse.kernels[path])[~mask].any()
    tfl.repair(sparse, x, reference=before)
    assert all(np.isfinite(np.array(weight)).all() for weight in model.weights)


class Borrowing(layers.Dense):
    """A `Dense` layer with the kernel, and perhaps the bias, of another one."""

    def __init__(self, kernel, bias=None):
        super().__init__(kernel.shape[-1], use_bias=bias is not None)
        self.borrowed = [kernel, bias]

    def build(self, input_shape):
        self._kernel, self.bias = self.borrowed
        self.built = True


def test_kernel_that_two_layers_share_is_listed():
    inputs = keras.Input((4,))
    first, last = layers.Dense(4, name="first"), layers.Dense(3, name="last")
    hidden = first(inputs)
    model = keras.Model(inputs, last(Borrowing(first.kernel)(hidden)))
    sparse, before = pruned(model)
    stored = np.array(first.kernel)
    report = tfl.repair(sparse, data(20)[:, :4], reference=before)
    assert report.skipped == {"first/kernel": "several layers share it"}
    assert [row.path for row in report.rows] == ["last/kernel"]
    np.testing.assert_array_equal(first.kernel, stored)


def test_bias_that_two_layers_share_stays_as_it_is():
    inputs = keras.Input((4,))
    first, kernel = layers.Dense(4), keras.Variable(np.eye(4), name="kernel")
    hidden = first(inputs)
    model = keras.Model(inputs, Borrowing(kernel, first.bias)(hidden))
    sparse, before = pruned(model)
    stored = np.array(first.bias)
    report = tfl.repair(sparse, data(20)[:, :4], reference=before)
    assert len(report.rows) == 2
    np.testing.assert_array_equal(first.bias, stored)


def test_sums_over_batches_need_no_second_array():
    moments, rows = walk.Moments(), np.array([[[1.0, 2.0]]], "float32")
    moments.add(rows)
    gram = moments.gram
    moments.add(2 * rows)
    assert moments.gram is gram and gram.dtype == "float64"
    assert (gram.tolist(), moments.count) == ([[[5.0, 10.0], [10.0, 20.0]]], 2)


def test_layer_inside_a_loop_is_listed():
    model = keras.Sequential([keras.Input((3, 6)), layers.TimeDistributed(layers.Dense(2))])
    sparse, before = pruned(model)
    report = tfl.repair(sparse, np.ones((4, 3, 6), "float32"), reference=before)
    assert len(report.rows) + len(report.skipped) == 1


def test_forms_of_inputs_and_reference():
    found = []
    x = data(20)
    original = two_layers()
    for inputs in (x, iter([(x[:10], None), (x[10:], None)]), iter([x[:10], x[10:]])):
        model = two_layers()
        sparse = tfl.sparsify(model, 0.5)
        report = tfl.repair(sparse, inputs, reference=original, batch_size=10)
        found.append(report.to_dict())
    assert json.dumps(found[0]) == json.dumps(found[1]) == json.dumps(found[2])
    assert "Repaired" in str(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.ones((0, 6))}, "`x` must have at least one"),
        ({"x": np.full((2, 6), np.nan)}, "`x` must be finite"),
        ({"ridge": -1}, "`ridge` must be"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"reference": "model"}, "`reference` must be the network as it was before"),
        ({"reference": 3}, "`reference` must be a `Snapshot`"),
    ],
)
def test_bad_arguments(arguments, message):
    model = two_layers()
    sparse, before = pruned(model)
    stored = [np.array(weight) for weight in model.weights]
    arguments = {"x": data(), "reference": before, **arguments}
    if arguments["reference"] == "model":
        arguments["reference"] = model
    with pytest.raises(ValueError, match=message):
        tfl.repair(sparse, **arguments)
    for weight, value in zip(model.weights, stored, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_activations_that_are_not_finite():
    model = two_layers()
    model.get_layer("hidden").bias.assign(np.full(5, np.inf))
    sparse, before = pruned(model)
    with pytest.raises(ValueError, match="finite activations.*hidden/kernel"):
        tfl.repair(sparse, data(), reference=before)


def test_soft_gates_are_refused():
    gated = tfl.sparsify(two_layers(), gate=tfl.SoftGate())
    with pytest.raises(ValueError, match="soft gates"):
        tfl.repair(gated, data(), reference=tfl.Snapshot(gated))
