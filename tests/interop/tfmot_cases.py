"""Tests that import TFMOT, which changes the process; test_tfmot.py runs them in another one."""

import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_lottery as tfl

# The modules and environment after importing the library, before TFMOT is imported.
LOADED, ENVIRONMENT, KERAS_VERSION = set(sys.modules), dict(os.environ), tf.keras.__version__

tf_keras = pytest.importorskip("tf_keras")
pruning = pytest.importorskip("tensorflow_model_optimization").sparsity.keras


def test_import_loads_nothing_of_tfmot():
    assert "tf_lottery.interop.tfmot" in LOADED
    assert not {"tensorflow_model_optimization", "tf_keras"} & LOADED
    assert "TF_USE_LEGACY_KERAS" not in ENVIRONMENT
    assert KERAS_VERSION[0] == "3"


def test_first_use_leaves_the_process_alone(monkeypatch):
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    schedule = pruning.ConstantSparsity(0.5, 0)
    pruned = pruning.prune_low_magnitude(sequential(tf_keras), schedule)
    environment, modules = dict(os.environ), set(sys.modules)
    tfl.interop.tfmot.ticket(pruned)
    tfl.interop.tfmot.pruning_callback(schedule)
    assert dict(os.environ) == environment
    assert set(sys.modules) == modules, set(sys.modules) - modules
    assert tf.keras.__version__[0] == "3" and tf.keras.Model is not tf_keras.Model


def convolutional(keras_of):
    """Makes a functional model with sequential and functional blocks and all kinds of kernels."""
    layers = keras_of.layers
    inputs = keras_of.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.SeparableConv2D(4, 3)(x)
    block = keras_of.Sequential(name="block")
    block.add(layers.Conv2D(4, 3))
    block.add(layers.BatchNormalization())
    x = block(x)
    inner = keras_of.Input((2, 2, 4))
    x = keras_of.Model(inner, layers.Dense(5, "tanh")(inner), name="inner")(x)
    x = layers.Dense(7, "tanh", name="hidden")(layers.Flatten()(x))
    return keras_of.Model(inputs, layers.Dense(3)(x))


def recurrent(keras_of):
    layers = keras_of.layers
    inputs = keras_of.Input((5,), dtype="int32")
    x = layers.Embedding(11, 4)(inputs)
    x = layers.LSTM(5, return_sequences=True)(x)
    x = layers.LSTM(5, return_sequences=True, name="second")(x)
    x = layers.GRU(4)(x)
    return keras_of.Model(inputs, layers.Dense(3)(x))


def attention(keras_of):
    layers = keras_of.layers
    inputs = keras_of.Input((4, 6))
    x = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    x = layers.LayerNormalization()(layers.Add()([x, inputs]))
    return keras_of.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def sequential(keras_of):
    layers = keras_of.layers
    return keras_of.Sequential(
        [keras_of.Input((6,)), layers.Dense(8, "relu"), layers.Dense(8, "relu"), layers.Dense(3)]
    )


def batch(model):
    rng = np.random.default_rng(0)
    if model.input_shape == (None, 5):
        return rng.integers(0, 11, (16, 5)).astype("int32")
    return rng.normal(size=(16, *model.input_shape[1:])).astype("float32")


def wrappers(model):
    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            yield from wrappers(layer)
        elif hasattr(layer, "pruning_vars"):
            yield layer


def masks_of(model):
    return [mask.numpy() for wrapper in wrappers(model) for _, mask, _ in wrapper.pruning_vars]


def wrapped(make, **arguments):
    """Returns a wrapped model with random weights."""
    model = pruning.prune_low_magnitude(make(tf_keras), **arguments)
    rng = np.random.default_rng(1)
    for wrapper in wrappers(model):
        for weight in wrapper.layer.weights:
            low = 0.5 if weight.name.split("/")[-1].startswith("moving_variance") else -0.5
            weight.assign(rng.uniform(low, low + 1, weight.shape))
    return model


def pruned(make):
    """Returns a wrapped model with random weights and masks of about 60% zeros."""
    model = wrapped(make)
    rng = np.random.default_rng(2)
    for wrapper in wrappers(model):
        for _, mask, _ in wrapper.pruning_vars:
            mask.assign(rng.random(mask.shape) < 0.4)
        wrapper.pruning_obj.weight_mask_op()
    return model


def assert_same(ticket, make, model, include=None):
    """Checks that a Keras 3 model with the ticket predicts the same as the `tf_keras` model."""
    sparse = tfl.sparsify(make(keras), include=include)
    assert ticket.apply(sparse).unmatched == {}
    inputs = batch(model)
    expected = np.array(model(inputs))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(sparse(inputs), expected, rtol=1e-5, atol=1e-5)
    return sparse


@pytest.fixture(scope="module")
def trained():
    """Returns a model that TFMOT pruned during training."""
    schedule = pruning.PolynomialDecay(0.2, 0.6, 2, 10, frequency=2)
    model = wrapped(convolutional, pruning_schedule=schedule)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=True)  # Compiling takes longer than the few steps.
    labels = np.arange(16) % 3
    model.fit(
        batch(model),
        labels,
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[pruning.UpdatePruningStep()],
    )
    return model


@pytest.mark.parametrize("strip", [False, True], ids=["wrapped", "stripped"])
def test_trained_model_becomes_a_ticket(strip, trained):
    stripped = pruning.strip_pruning(trained)
    ticket = tfl.interop.tfmot.ticket(stripped if strip else trained)
    sparse = assert_same(ticket, convolutional, stripped)
    found, expected = sparse.get_masks().values(), masks_of(trained)
    assert len(found) == len(expected) == 6
    for mask, mask_of_tfmot in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, mask_of_tfmot)
        assert round(mask.size * 0.4) == np.count_nonzero(mask)
    assert ticket.provenance["tf_keras"] == tf_keras.__version__


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(recurrent, marks=pytest.mark.thorough("pairs kernels like the other two")),
        attention,
        sequential,
    ],
)
def test_other_architectures(make):
    model = pruned(make)
    include = "kernel|embeddings" if make is recurrent else None
    tickets = [tfl.interop.tfmot.ticket(m) for m in (model, pruning.strip_pruning(model))]
    for ticket in tickets:
        assert list(ticket.masks) == list(tickets[0].masks)
        sparse = assert_same(ticket, make, model, include)
        for mask, expected in zip(sparse.get_masks().values(), masks_of(model), strict=True):
            np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "form",
    [
        "model.keras",
        "model.h5",
        pytest.param("folder", marks=pytest.mark.thorough("writing a SavedModel is slow")),
    ],
)
def test_loaded_models(form, request, tmp_path):
    # With many layers, writing the folder is slow.
    model = pruned(sequential) if form == "folder" else request.getfixturevalue("trained")
    model.save(tmp_path / form)
    # A loaded SavedModel has generated classes.
    with pruning.prune_scope() if form != "folder" else tf_keras.utils.custom_object_scope({}):
        loaded = tf_keras.models.load_model(tmp_path / form)
    ticket = tfl.interop.tfmot.ticket(loaded)
    expected = tfl.interop.tfmot.ticket(model)
    assert list(ticket.masks) == list(expected.masks)
    assert list(ticket.weights) == list(expected.weights)
    for path, weight in expected.weights.items():
        np.testing.assert_array_equal(ticket.weights[path], weight)
    for path, mask in expected.masks.items():
        np.testing.assert_array_equal(ticket.masks[path], mask)


def test_pruned_weights_are_zero_between_batches():
    model = pruned(sequential)
    for wrapper in wrappers(model):
        wrapper.pruning_step.assign(0)
    model.compile(tf_keras.optimizers.SGD(0.5), "mse")
    model.train_on_batch(batch(model), np.ones((16, 3), "float32"))
    ticket = tfl.interop.tfmot.ticket(model)
    moved = [
        weight.numpy()[mask.numpy() == 0]
        for wrapper in wrappers(model)
        for weight, mask, _ in wrapper.pruning_vars
    ]
    assert any(map(np.any, moved))
    for path, mask in ticket.masks.items():
        assert not ticket.weights[path][~mask].any()
        assert ticket.weights[path][mask].all()
    for wrapper in wrappers(model):
        wrapper.pruning_obj.weight_mask_op()
    assert_same(ticket, sequential, pruning.strip_pruning(model))


class Wrapped(tf_keras.Model):
    """A subclassed model, one layer of which is pruned."""

    def __init__(self):
        super().__init__(name="wrapped")
        self.hidden = pruning.prune_low_magnitude(
            tf_keras.layers.Dense(8, "relu", name="hidden"), pruning.ConstantSparsity(0.5, 0)
        )
        self.head = tf_keras.layers.Dense(3, name="head")

    def call(self, inputs):
        return self.head(self.hidden(inputs))


def test_layers_that_are_not_wrapped_have_no_mask():
    model = Wrapped()
    model(np.zeros((1, 6), "float32"))
    model.hidden.pruning_vars[0][1].assign(np.arange(48).reshape(6, 8) % 2)
    model.hidden.pruning_obj.weight_mask_op()
    ticket = tfl.interop.tfmot.ticket(model)
    assert list(ticket.masks) == ["wrapped/hidden/kernel"]
    assert sorted(ticket.weights) == [
        "wrapped/head/bias",
        "wrapped/head/kernel",
        "wrapped/hidden/bias",
        "wrapped/hidden/kernel",
    ]
    assert ticket.density == 0.5


def test_other_names_are_paired_by_order():
    model = pruned(sequential)
    dense = keras.layers.Dense
    other = keras.Sequential(
        [keras.Input((6,)), dense(8, "relu", name="z"), dense(8, "relu", name="y"), dense(3)]
    )
    sparse = tfl.sparsify(other)
    with pytest.raises(ValueError, match="must share a kernel with the ticket"):
        tfl.interop.tfmot.ticket(model).apply(sparse)
    for target in (sparse, other):
        ticket = tfl.interop.tfmot.ticket(model, target)
        assert list(ticket.masks) == list(sparse.kernels)
        assert ticket.apply(sparse).unmatched == {}
    np.testing.assert_allclose(
        sparse.predict(batch(model), verbose=0), model.predict(batch(model), verbose=0), rtol=1e-5
    )


def test_models_that_do_not_fit_are_refused():
    model = pruned(sequential)
    dense = keras.layers.Dense
    short = keras.Sequential([keras.Input((6,)), dense(8, name="a"), dense(8, name="b")])
    wide = keras.Sequential([keras.Input((6,)), dense(9, name="a"), dense(8), dense(3)])
    for other, received in (
        (short, r"with no weight, where 'sequential.*' has \S*dense_?\d*/kernel of shape .8, 3."),
        (wide, r"with \S*a/kernel of shape .6, 9., where .* has \S*/kernel of shape .6, 8."),
        (model, "tf_keras"),
        (keras.Sequential([dense(3)]), "Sequential"),
    ):
        with pytest.raises(ValueError, match=f"`model` must .*Received: .*{received}"):
            tfl.interop.tfmot.ticket(model, other)


def test_models_that_are_not_pruned_are_refused():
    unbuilt = tf_keras.Sequential([tf_keras.layers.Dense(3)])
    for model, message in (
        (sequential(tf_keras), "`pruned_model` must be pruned by TFMOT"),
        (sequential(keras), "`pruned_model` must be a built `tf_keras` model"),
        (pruned(sequential).layers[0], "`pruned_model` must be a built `tf_keras` model"),
        (unbuilt, "`pruned_model` must be a built `tf_keras` model"),
        (None, "`pruned_model` must be a built `tf_keras` model"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Received"):
            tfl.interop.tfmot.ticket(model)


def test_subclasses_of_schedules_are_refused():
    class Own(pruning.ConstantSparsity):
        """A subclass of a schedule, which may compute anything."""

    with pytest.raises(ValueError, match="`pruning_schedule` must be .*Received.*Own"):
        tfl.interop.tfmot.schedule(Own(0.5, 0))


@pytest.mark.parametrize(
    "theirs",
    [
        pruning.PolynomialDecay(0.2, 0.8, 3, 50, frequency=4),
        pruning.PolynomialDecay(0.5, 0.0, 0, 30, power=1, frequency=1),
        pruning.ConstantSparsity(0.6, 5, frequency=3),
        pruning.ConstantSparsity(0.6, 0, end_step=20),
    ],
    ids=["cubic", "linear", "endless", "ending"],
)
def test_schedule_has_the_values_of_tfmot(theirs):
    ours = tfl.interop.tfmot.schedule(theirs)
    applied, num_updates = 0.0, 0
    for step in range(60):
        is_due, value = theirs(step)
        if is_due:
            num_updates += 1
            applied = float(value)
            assert ours(step) == pytest.approx(applied, abs=1e-6)
        if step < theirs.begin_step:
            assert ours(step) == 0.0
    assert num_updates > 0
    assert ours(10**6) == pytest.approx(theirs.get_config()["config"].get("final_sparsity", 0.6))


class SizesByBatch:
    """Records the number of active weights of each kernel after every batch."""

    def __init__(self, count):
        self.sizes = []
        self._count = count

    def on_train_batch_end(self, batch, logs=None):
        self.sizes.append(self._count(self.model))


class TheirSizes(SizesByBatch, tf_keras.callbacks.Callback):
    """Records those of a `tf_keras` model."""


class OurSizes(SizesByBatch, keras.callbacks.Callback):
    """Records those of a sparse model."""


@pytest.mark.parametrize(
    "kind",
    [
        "decay",
        pytest.param(
            "constant", marks=pytest.mark.thorough("the schedule has the values of TFMOT")
        ),
    ],
)
def test_training_has_the_sparsities_of_tfmot(kind):
    if kind == "decay":
        schedule = pruning.PolynomialDecay(0.2, 0.8, 2, 11, frequency=3)
    else:
        schedule = pruning.ConstantSparsity(0.6, 3, end_step=7, frequency=2)
    x = np.random.default_rng(0).normal(size=(28, 6)).astype("float32")
    y = np.ones((28, 3), "float32")

    theirs = pruning.prune_low_magnitude(sequential(tf_keras), schedule)
    theirs.compile("adam", "mse", run_eagerly=True)
    their_sizes = TheirSizes(lambda model: [int(mask.sum()) for mask in masks_of(model)])
    callbacks = [pruning.UpdatePruningStep(), their_sizes]
    theirs.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)

    ours = tfl.sparsify(sequential(keras))
    ours.compile("adam", "mse", run_eagerly=True)
    our_sizes = OurSizes(lambda model: [int(m.sum()) for m in model.get_masks().values()])
    callbacks = [tfl.interop.tfmot.pruning_callback(schedule), our_sizes]
    ours.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)

    assert len(our_sizes.sizes) == 14
    assert len({tuple(sizes) for sizes in our_sizes.sizes}) == (5 if kind == "decay" else 2)
    assert our_sizes.sizes == their_sizes.sizes
