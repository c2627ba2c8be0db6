"""Small models of every kind, toy data and the folder of the real data sets."""

import functools
import os
import pathlib
import runpy
import signal

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.export import conversion
from tf_lottery.export.child_process import ChildError
from tf_lottery.sparsity.groups import Group, Member


def pytest_configure(config):
    """Configures the backends, here and in the processes that tests start.

    XLA compiles without LLVM's optimizations, since the models make few steps. TensorFlow gets
    several devices if a test asks for them; see test_backends.py.
    """
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    # What a shell starts in the background ignores Ctrl-C, which some tests send.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TF_LOTTERY_TEST_DEVICES" in os.environ:
        import tensorflow as tf

        devices = [tf.config.LogicalDeviceConfiguration()] * int(
            os.environ["TF_LOTTERY_TEST_DEVICES"]
        )
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, devices)
    if keras.backend.backend() == "torch":
        for name in ("assert_allclose", "assert_array_equal"):
            setattr(np.testing, name, taking_tensors(getattr(np.testing, name)))


def taking_tensors(check):
    """Makes a NumPy assertion accept layer outputs, which on PyTorch may require gradients."""

    @functools.wraps(check)
    def checked(*arguments, **options):
        arrays = [
            keras.ops.convert_to_numpy(argument) if keras.ops.is_tensor(argument) else argument
            for argument in arguments
        ]
        return check(*arrays, **options)

    return checked


def pytest_collection_modifyitems(config, items):
    """Runs the longest tests first, so that no process waits for another one at the end.

    The quick tier runs one case of each test elsewhere than on TensorFlow.
    """
    items.sort(key=lambda item: item.path.name != "test_backends.py")
    if keras.backend.backend() != "tensorflow" and not config.option.thorough:
        others = later_cases(items)
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


def later_cases(items):
    """Returns the cases after the first one of each test marked `backend`."""
    first, later = set(), []
    for item in items:
        marker = item.get_closest_marker("backend")
        thorough = item.get_closest_marker("thorough")
        if marker is None or thorough or marker.kwargs.get("every_case"):
            continue
        test = item.nodeid.partition("[")[0]
        if test in first:
            later.append(item)
        first.add(test)
    return later


@pytest.fixture(autouse=True)
def seed():
    """Seeds Keras: initial weights, dropout and the order of the batches."""
    keras.utils.set_random_seed(1)


class InThisProcess:
    """Replaces `ChildProcess`: loads a file once and calls its functions in this process."""

    def __init__(self, path):
        self.path = os.fspath(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def call(self, name, **arguments):
        try:
            return _task(self.path)[name](**arguments)
        except Exception as error:
            raise ChildError(f"{type(error).__name__}: {error}") from error


@functools.cache
def _task(path):
    return runpy.run_path(path)


@pytest.fixture(scope="session", autouse=True)
def convert_in_this_process():
    """Converts in this process, since a new one takes seconds to import TensorFlow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "ChildProcess", InThisProcess)
        yield InThisProcess


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A model that Keras cannot clone: its constructor makes layers without names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(8, "relu")
        # Without a seed, dropout on PyTorch uses the global generator, whose state is not saved.
        self.dropout = layers.Dropout(0.3, seed=1)
        self.head = layers.Dense(3, dtype="float32")

    def call(self, inputs, training=None):
        x = self.hidden(self.flatten(inputs))
        return self.head(self.dropout(x, training=training))


def dense():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", name="hidden"),
            layers.Dense(3, name="output", dtype="float32"),
        ]
    )


def nested():
    """One block with convolution and batch statistics, used twice."""
    inputs = keras.Input((6, 6, 2))
    block = keras.Sequential(
        [layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization()], name="block"
    )
    x = layers.Concatenate()([block(inputs), layers.ReLU()(block(inputs))])
    x = layers.SeparableConv2D(4, 3)(x)
    x = layers.DepthwiseConv2D(3)(x)
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(layers.Flatten()(x)))


def residual():
    """A residual block, whose norms have trained scales, shifts and statistics."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = shortcut = layers.ReLU()(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(6, 3, padding="same", name="inner")(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False, name="inner_norm")(x))
    x = layers.Conv2D(4, 3, padding="same", name="outer")(x)
    x = layers.BatchNormalization(name="outer_norm")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x + shortcut))
    model = keras.Model(inputs, layers.Dense(3, name="head", dtype="float32")(x))
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def recurrent():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.GRU(4)(layers.Embedding(11, 4)(inputs))
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


def recurrent_deep():
    """A model with every recurrent wrapper; it is slow to compile."""
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 4)(inputs)
    x = layers.LSTM(5, return_sequences=True)(x)
    x = layers.Bidirectional(layers.GRU(4))(x)
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


def attention():
    inputs = keras.Input((4, 6))
    x = layers.MultiHeadAttention(2, 3, kernel_regularizer=keras.regularizers.L2(1e-3))(
        inputs, inputs
    )
    x = layers.LayerNormalization()(x + inputs)
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(layers.Flatten()(x)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4, 2), "float32"))
    return model


def dict_inputs():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((5,), name="b")}
    x = layers.Concatenate()([layers.Dense(4, "relu")(inputs["a"]), inputs["b"]])
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


MODELS = {
    model.__name__: model
    for model in (
        dense,
        nested,
        residual,
        recurrent,
        recurrent_deep,
        attention,
        subclassed,
        dict_inputs,
    )
}
SHAPES = {
    "dense": (6,),
    "nested": (6, 6, 2),
    "residual": (6, 6, 2),
    "attention": (4, 6),
    "subclassed": (4, 2),
}


@pytest.fixture
def make_model():
    """Returns a function that makes a model of a kind, always with the same initial weights."""

    def make(kind="dense"):
        model = MODELS[kind]()
        rng = np.random.default_rng(1)
        for weight in model.weights:
            if len(weight.shape) >= 2:
                scale = 1 / np.sqrt(np.prod(weight.shape[:-1]))
                weight.assign(rng.normal(0, scale, weight.shape))
        for variable in model.variables:
            if variable.name == "seed_generator_state":
                variable.assign(np.array([1, 2], variable.dtype))
        return model

    return make


@pytest.fixture
def residual_groups():
    """The channel groups of the kind "residual", by hand."""

    def members(width, axis, *keys):
        return tuple(Member(key, axis, np.arange(width)[:, None]) for key in keys)

    norms = ("stem_norm", "outer_norm")
    stream = Group(
        "stem",
        4,
        members(4, 3, "stem/kernel", "outer/kernel"),
        members(4, 0, "outer/bias", *(f"{n}/{k}" for n in norms for k in ("gamma", "beta"))),
        (
            *members(4, 2, "inner/kernel"),
            *members(4, 0, "head/kernel"),
            *members(4, 0, *(f"{n}/moving_{k}" for n in norms for k in ("mean", "variance"))),
        ),
    )
    inner = Group(
        "inner",
        6,
        members(6, 3, "inner/kernel"),
        members(6, 0, "inner/bias", "inner_norm/beta", "inner_norm/moving_mean"),
        (*members(6, 2, "outer/kernel"), *members(6, 0, "inner_norm/moving_variance")),
    )
    return [stream, inner]


@pytest.fixture
def make_coupled(make_model, residual_groups):
    """Returns a function that makes a sparse model with the pattern "channel"."""

    def make(pattern="channel"):
        return tfl.SparseModel(make_model("residual"), pattern=pattern, groups=residual_groups)

    return make


@pytest.fixture(scope="session")
def small_lenet():
    """Builder of a network of one hidden layer with the layer names of LeNet-300-100.

    For the digits it has 1480 weights: a half, a quarter, a fifth and so on are integers.
    """
    from tf_lottery.experiments.models.blocks import glorot_normal, layer_seeds

    def build(input_shape=(8, 8, 1), num_classes=10, seed=None):
        seeds = layer_seeds(seed)
        hidden, output = (glorot_normal(seeds) for _ in range(2))
        return keras.Sequential(
            [
                keras.Input(input_shape),
                layers.Flatten(name="flatten"),
                layers.Dense(20, "relu", kernel_initializer=hidden, name="hidden_1"),
                layers.Dense(num_classes, kernel_initializer=output, name="output"),
            ],
            name="lenet_300_100",
        )

    return build


@pytest.fixture
def make_data():
    """Returns a function that makes 24 examples for a kind of model."""

    def make(kind="dense", size=24):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, size).astype("int32")
        if kind in ("recurrent", "recurrent_deep"):
            return rng.integers(0, 11, (size, 5)).astype("int32"), y
        if kind == "dict_inputs":
            x = {"a": rng.normal(size=(size, 4)), "b": rng.normal(size=(size, 5))}
            return {name: array.astype("float32") for name, array in x.items()}, y
        return rng.normal(size=(size, *SHAPES[kind])).astype("float32"), y

    return make


@pytest.fixture
def compile_model():
    """Returns a function that compiles a model for tests.

    On TensorFlow models train eagerly unless `run_eagerly=False` is passed, because up to a dozen
    eager steps take less time than building a graph. Graphs are tested by tests that ask for
    them or call `compile` themselves, and by `test_contract.py`. There is no metric, which takes up
    to a third of the time of a graph, unless `metrics` are passed.
    """
    mode = {"run_eagerly": True} if keras.backend.backend() == "tensorflow" else {}

    def compile_model(model, optimizer=None, **kwargs):
        model.compile(
            optimizer or keras.optimizers.AdamW(0.01, global_clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **{**mode, **kwargs},
        )
        return model

    return compile_model


@pytest.fixture
def tfds_dir():
    """Folder of TensorFlow Datasets with MNIST. Without it the test is skipped."""
    beside = pathlib.Path(__file__).parents[2] / "shared" / "tfds"
    folder = pathlib.Path(os.environ.get("TFDS_DATA_DIR", beside))
    if not (folder / "mnist").is_dir():
        pytest.skip("MNIST is not there: set TFDS_DATA_DIR to a folder of TensorFlow Datasets")
    return folder


@pytest.fixture
def precision(request):
    """Sets the global dtype policy for one test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.fixture
def published_densities():
    """Percent of the weights of LeNet-300-100 at levels 0 to 15, arXiv:1803.03635."""
    return [
        100,
        80.0,
        64.1,
        51.3,
        41.1,
        32.9,
        26.3,
        21.1,
        16.9,
        13.5,
        10.8,
        8.7,
        6.9,
        5.6,
        4.5,
        3.6,
    ]
