"""Callbacks on a sparse model inside the trained model, or in a custom training loop."""

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import (
    SET,
    SNFS,
    ContinuousSparsification,
    EarlyBird,
    GradualMagnitudePruning,
    IterativeMagnitudePruning,
    RigL,
    SparsityLogger,
)
from tf_lottery.sparsity import Constant, Polynomial

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="trains by a `tf.GradientTape`"
)

GRADUAL = Polynomial(final_value=0.8, end_step=9, initial_value=0.5)
METHODS = {
    "rigl": lambda **where: RigL(2, Constant(0.4), end_step=9, **where),
    "rigl_of_means": lambda **where: RigL(
        3, Constant(0.4), end_step=9, grad_accumulation=2, grow_init="gradient", **where
    ),
    "set": lambda **where: SET(2, Constant(0.4), end_step=9, **where),
    "snfs": lambda **where: SNFS(2, Constant(0.4), end_step=9, **where),
    "gradual": lambda **where: GradualMagnitudePruning(GRADUAL, 2, **where),
}


# Those that drop and grow share their code: RigL stands for them in the quick tier.
CASES = [
    pytest.param(name, marks=pytest.mark.thorough("shares its code with RigL"))
    if name in ("set", "snfs")
    else name
    for name in METHODS
]


class GAN(keras.Model):
    """A generator and a discriminator with an optimizer each, and a custom training step."""

    def __init__(self, generator):
        super().__init__()
        self.generator = generator
        self.discriminator = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
        )
        self.of_generator = keras.optimizers.Adam(0.01)
        self.of_discriminator = keras.optimizers.Adam(0.01)
        self.bce = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, noise):
        import tensorflow as tf

        ones = tf.ones((len(noise), 1))
        with tf.GradientTape() as tape:
            fake = self.discriminator(self.generator(noise, training=True), training=True)
            real = self.discriminator(noise[:, :3], training=True)
            loss = self.bce(ones, real) + self.bce(0 * ones, fake)
        weights = self.discriminator.trainable_variables
        self.of_discriminator.apply(tape.gradient(loss, weights), weights)
        with tf.GradientTape() as tape:
            fake = self.discriminator(self.generator(noise, training=True), training=True)
            loss = self.bce(ones, fake)
        weights = self.generator.trainable_variables
        self.of_generator.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


@pytest.fixture
def make_gan(make_model, make_data):
    """Returns a function of the arguments of `sparsify`: makes a GAN and a function to fit it."""

    def make(*args, **kwargs):
        gan = GAN(tfl.sparsify(make_model(), *args, **kwargs))
        gan.compile(run_eagerly=True)

        def fit(*callbacks, epochs=2):
            x, _ = make_data()
            return gan.fit(
                x, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
            )

        return gan, fit

    return make


def of_generator(gan):
    """Returns the arguments of a callback on the generator, with its optimizer built."""
    gan.of_generator.build(gan.generator.trainable_variables)
    return {"sparse_model": gan.generator, "optimizer": gan.of_generator}


@on_tensorflow
@pytest.mark.parametrize("method", CASES)
def test_methods_work_on_a_generator(method, make_gan):
    gan, fit = make_gan(0.5, scores="random")
    before = gan.generator.get_masks()
    fit(METHODS[method](**of_generator(gan)))
    masks, kernels = gan.generator.get_masks(), gan.generator.get_kernels()
    expected = 0.8 if method == "gradual" else 0.5
    assert gan.generator.sparsity == pytest.approx(expected, abs=0.01)
    assert any(np.any(masks[path] & ~before[path]) for path in masks) == (method != "gradual")
    stripped = [layer.kernel.numpy() for layer in tfl.strip(gan.generator).layers]
    for mask, kernel, value in zip(masks.values(), kernels.values(), stripped, strict=True):
        np.testing.assert_array_equal(kernel, value)
        assert not value[~mask].any()
    # The discriminator and the generator can be trained further after the method ends.
    fit(epochs=1)


class BestAtFirst(keras.callbacks.Callback):
    """Adds a metric that is best at the end of the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = -epoch


@on_tensorflow
@pytest.mark.parametrize(
    "weights_only",
    [True, pytest.param(False, marks=pytest.mark.thorough("the warning is that of weights"))],
)
def test_best_checkpoint_of_the_whole_model_is_warned_of(weights_only, make_gan, tmp_path):
    gan, fit = make_gan()
    # Keras saves only models that are built and have a configuration.
    gan.built, gan.get_config = True, dict
    path = tmp_path / ("best.weights.h5" if weights_only else "best.keras")
    options = {"mode": "max", "save_best_only": True, "save_weights_only": weights_only}
    checkpoint = keras.callbacks.ModelCheckpoint(path, "score", **options)
    each = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    # After the first epoch's 6 steps: 0.9 - 0.9 / 2**3.
    schedule = Polynomial(final_value=0.9, end_step=12)
    pruning = GradualMagnitudePruning(schedule, 2, **of_generator(gan))
    logger = SparsityLogger(sparse_model=gan.generator, optimizer=gan.of_generator)
    with pytest.warns(UserWarning, match="last written at sparsity") as warned:
        fit(pruning, BestAtFirst(), checkpoint, each, logger)
    (message,) = {str(w.message) for w in warned if "last written" in str(w.message)}
    assert f"{path.name}' was last written at sparsity 0.79" in message
    assert "but the model has 0.90" in message
    assert {"save", "save_weights"}.isdisjoint(vars(gan))


@on_tensorflow
def test_the_optimizer_is_found_after_a_step(make_gan):
    gan, fit = make_gan(0.5, scores="random")
    with pytest.raises(ValueError, match="`optimizer` must be given"):
        fit(METHODS["rigl"](sparse_model=gan.generator))
    fit(epochs=1)
    fit(METHODS["rigl"](sparse_model=gan.generator), epochs=1)
    with pytest.raises(ValueError, match="`optimizer` must train the weights"):
        fit(METHODS["rigl"](sparse_model=gan.generator, optimizer=gan.of_discriminator))


@on_tensorflow
def test_searches_for_tickets_of_a_generator(make_gan):
    gan, fit = make_gan()
    where = {**of_generator(gan), "verbose": 0}
    start = gan.generator.named_weights
    start = {path: np.array(variable) for path, variable in start.items()}
    search = IterativeMagnitudePruning(2, 1, rate=0.5, **where)
    fit(search, epochs=search.epochs)
    assert [ticket.density for ticket in search.tickets] == [1.0, 0.5, 0.25]
    for path, weight in search.tickets[-1].weights.items():
        np.testing.assert_array_equal(weight, start[path])
    assert gan.generator.density == 0.25


@on_tensorflow
def test_gates_of_a_generator_are_learned(make_gan):
    gan, fit = make_gan(gate=tfl.SoftGate())
    where = {**of_generator(gan), "verbose": 0}
    search = ContinuousSparsification(
        1, rounds=2, retrain_epochs=1, target_density=0.25, exact_density=True, **where
    )
    logs = fit(search, epochs=search.epochs).history
    assert logs["round"] == [0, 1, 2]
    assert gan.generator.density == 0.25
    assert not gan.generator.has_soft_gates


@on_tensorflow
def test_measures_of_a_generator(make_gan):
    gan, fit = make_gan(0.5)
    where = of_generator(gan)
    bird = EarlyBird(0.75, window=2, stop_training=False, **where)
    logs = fit(SparsityLogger(**where), bird).history
    assert logs["sparsity"] == [0.5, 0.5]
    assert len(logs["mask_distance"]) == 1


@pytest.fixture
def make_layer_and_whole(make_model, compile_model):
    """Returns a function that makes a model with a sparse layer, and the same as a `SparseModel`.

    Both compute the same. After the sparse layer comes a dense one, which is also trained.
    """

    def make(**kwargs):
        hidden, head = make_model().layers
        inputs = keras.Input((6,))
        sparse = tfl.sparsify(keras.Sequential([inputs, hidden]), **kwargs)
        outer = keras.Model(inputs, head(sparse(inputs)))
        whole = tfl.sparsify(make_model(), exclude="output", **kwargs)
        return compile_model(outer), sparse, compile_model(whole)

    return make


@pytest.mark.backend
@pytest.mark.parametrize("method", CASES)
def test_methods_work_on_a_layer_as_on_a_model(method, make_layer_and_whole, make_data):
    outer, sparse, whole = make_layer_and_whole(sparsity=0.5, scores="random")
    how = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    outer.fit(*make_data(), **how, callbacks=[METHODS[method](sparse_model=sparse)])
    whole.fit(*make_data(), **how, callbacks=[METHODS[method]()])
    [mask], [expected] = sparse.get_masks().values(), whole.get_masks().values()
    np.testing.assert_array_equal(mask, expected)
    found, expected = (model.predict(make_data()[0], verbose=0) for model in (outer, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_searches_work_on_a_layer_as_on_a_model(make_layer_and_whole, make_data):
    outer, sparse, whole = make_layer_and_whole()
    for model, where in ((outer, {"sparse_model": sparse}), (whole, {})):
        search = IterativeMagnitudePruning(2, 1, rate=0.5, rewind_to_step=2, verbose=0, **where)
        model.fit(
            *make_data(),
            epochs=search.epochs,
            batch_size=4,
            shuffle=False,
            verbose=0,
            callbacks=[search],
        )
    [mask], [expected] = sparse.get_masks().values(), whole.get_masks().values()
    np.testing.assert_array_equal(mask, expected)
    assert sparse.density == 0.25


@pytest.mark.backend
def test_gates_of_a_layer_are_learned(make_layer_and_whole, make_data):
    outer, sparse, whole = make_layer_and_whole(gate=tfl.SoftGate())
    for model, where in ((outer, {"sparse_model": sparse}), (whole, {})):
        search = ContinuousSparsification(
            1, rounds=2, target_density=0.25, exact_density=True, verbose=0, **where
        )
        model.fit(
            *make_data(),
            epochs=search.epochs,
            batch_size=4,
            shuffle=False,
            verbose=0,
            callbacks=[search],
        )
    [mask], [expected] = sparse.get_masks().values(), whole.get_masks().values()
    np.testing.assert_array_equal(mask, expected)
    assert sparse.density == 0.25


@pytest.mark.parametrize(
    ("target_density", "execution"),
    [
        (None, 1),
        (None, 10),
        pytest.param(0.5, 1, marks=pytest.mark.thorough("the other cells count calls, too")),
    ],
)
def test_calls_in_a_step_do_not_hurry_the_gates(
    target_density, execution, make_model, compile_model
):
    part = tfl.sparsify(make_model(), gate=tfl.SoftGate(penalty=1e-3))
    first, second = keras.Input((6,)), keras.Input((6,))
    difference = keras.layers.Subtract()([part(first), part(second)])
    # Ten steps are more than an epoch has.
    options = {"run_eagerly": False, "steps_per_execution": execution} if execution > 1 else {}
    whole = compile_model(keras.Model([first, second], difference), **options)
    search = ContinuousSparsification(
        3, rounds=2, target_density=target_density, retrain_epochs=0, verbose=0, sparse_model=part
    )
    x = list(np.random.default_rng(0).normal(size=(2, 24, 6)).astype("float32"))
    y = np.random.default_rng(0).integers(0, 3, 24)
    logs = whole.fit(
        x, y, batch_size=4, epochs=search.epochs, verbose=0, callbacks=[search]
    ).history
    # The second call of step 6 of 18 is half a step further.
    expected = [[200 ** (5.5 / 17), 200 ** (11.5 / 17), 200]] * 2
    # The calls of the first execution of a round, a whole epoch, are counted only at its end.
    first = int(execution > 1)
    found = np.reshape(logs["temperature"], (2, 3))
    np.testing.assert_allclose(found[:, first:], np.array(expected)[:, first:], rtol=1e-4)


def train_by_hand(model, optimizer, callback, x, y):
    """Trains with a loop as in TensorFlow's tutorials: two epochs of batches of four examples."""
    import tensorflow as tf

    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    callback.start_loop()
    for start in [*range(0, len(x), 4)] * 2:
        batch = slice(start, start + 4)
        with tf.GradientTape() as tape:
            loss = loss_of(y[batch], model(x[batch], training=True))
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        callback.after_step()
    callback.end_loop()


@on_tensorflow
@pytest.mark.parametrize("method", CASES)
def test_loops_without_fit(method, make_model, make_data, compile_model):
    fitted, by_hand = (tfl.sparsify(make_model(), 0.5, scores="random") for _ in range(2))
    compile_model(fitted).fit(
        *make_data(),
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[METHODS[method]()],
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    optimizer.build(by_hand.trainable_variables)
    callback = METHODS[method](sparse_model=by_hand, optimizer=optimizer)
    train_by_hand(by_hand, optimizer, callback, *make_data())
    masks, kernels = by_hand.get_masks(), by_hand.get_kernels()
    for path, expected in zip(masks, fitted.get_masks().values(), strict=True):
        np.testing.assert_array_equal(masks[path], expected)
    for found, expected in zip(kernels.values(), fitted.get_kernels().values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for path, kernel in by_hand.kernels.items():
        assert not np.any(keras.ops.convert_to_numpy(kernel)[~masks[path]])
    assert len(by_hand.trainable_variables) == len(fitted.trainable_variables)


@pytest.mark.backend
def test_loops_need_to_know_model_and_optimizer(make_model):
    sparse, optimizer = tfl.sparsify(make_model(), 0.5), keras.optimizers.SGD()
    optimizer.build(sparse.trainable_variables)
    where = {"sparse_model": sparse, "optimizer": optimizer}
    for callback in (
        RigL(end_step=9),
        RigL(end_step=9, sparse_model=sparse),
        IterativeMagnitudePruning(1, 1, **where),
        EarlyBird(0.5, **where),
    ):
        with pytest.raises(ValueError, match="without `fit` needs the arguments.*Received"):
            callback.start_loop()
    for callback in (RigL(**where), GradualMagnitudePruning(0.9, **where)):
        with pytest.raises(ValueError, match="`end_step` must be given"):
            callback.start_loop()


@pytest.fixture
def chain():
    """A model of an encoder, a sparse model and a head."""
    parts = [keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)]) for _ in range(2)]
    sparse = tfl.sparsify(parts[1], 0.5)
    return keras.Sequential([keras.Input((6,)), parts[0], sparse, keras.layers.Dense(3)]), sparse


@pytest.mark.backend
def test_in_loops_optimizers_keep_the_order_of_the_outer_model(chain):
    outer, sparse = chain
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(outer.trainable_variables)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in outer.trainable_variables]
    callback = RigL(2, end_step=9, sparse_model=sparse, optimizer=optimizer)
    callback.start_loop()
    trained = outer.trainable_variables
    [at] = [i for i, v in enumerate(trained) if v is sparse.growth.gradients[0]]
    # Without a list of variables, and on JAX always, gradients are taken in this order.
    optimizer.apply([float(i) * keras.ops.ones(v.shape) for i, v in enumerate(trained)])
    moved = [keras.ops.convert_to_numpy(v) for v in trained]
    assert np.all(moved.pop(at) == at)
    steps = [float(np.mean(a - b)) for a, b in zip(before, moved, strict=True)]
    expected = [i for i in range(len(trained)) if i != at]
    np.testing.assert_allclose(steps, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.backend
def test_an_optimizer_of_several_models_must_be_built(chain):
    outer, sparse = chain
    optimizer = keras.optimizers.SGD()
    callback = GradualMagnitudePruning(0.9, end_step=9, sparse_model=sparse, optimizer=optimizer)
    with pytest.raises(ValueError, match=r"must be built with all.*`optimizer\.build\(model\.tr"):
        callback.start_loop()
    assert not optimizer.built
    optimizer.build(outer.trainable_variables)
    callback.start_loop()


@pytest.mark.backend
def test_steps_before_the_loop_are_refused(chain):
    callback = RigL(end_step=9, sparse_model=chain[1], optimizer=keras.optimizers.SGD())
    with pytest.raises(ValueError, match="Call `start_loop` before.*Received: a RigL"):
        callback.after_step()
