"""Tests the private parts of Keras that the library uses, and that only `_keras` does so."""

import ast
import functools
import pathlib

import keras
import numpy as np
import pytest
from keras import layers, ops

from tf_lottery import _keras

ROOM = pathlib.Path(_keras.__file__).parent
PACKAGE = ROOM.parent
FILES = sorted(
    file
    for folder in (PACKAGE, PACKAGE.parent / "tf_lottery_cli")
    for file in folder.rglob("*.py")
    if ROOM not in file.parents
)


def relies_on(private, function=None):
    """Decorator of a test: makes its failure say which private part of Keras has changed.

    Args:
        private: String, the private part of Keras that the function uses.
        function: String, the function of `tf_lottery._keras`. Defaults to `None`: the one in
            the name of the test.
    """

    def decorate(test):
        name = function or test.__name__.removeprefix("test_")

        @functools.wraps(test)
        def run(*args, **kwargs):
            try:
                test(*args, **kwargs)
            except Exception as error:
                raise AssertionError(
                    f"`tf_lottery._keras.{name}` relies on {private}, which Keras "
                    f"{keras.__version__} has changed; its docstring says why it is needed"
                ) from error

        run.canary_of = name
        return run

    return decorate


class Holder(layers.Layer):
    """A layer with sublayers in every kind of container."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.single = layers.Dense(2)
        self.listed = [layers.Dense(2), layers.ReLU()]
        self.named = {"a": layers.Dense(2)}

    def call(self, x):
        for layer in (self.single, *self.listed, self.named["a"]):
            x = layer(x)
        return x


@pytest.fixture
def optimizer_of():
    """Returns a function that builds an optimizer for a variable; returns both."""

    def build(optimizer):
        variable = keras.Variable(np.ones(2, "float32"), name="kernel")
        optimizer.build([variable])
        return optimizer, variable

    return build


def overwritten():
    variable = keras.Variable(np.zeros(2, "float32"), name="gradient")
    variable.overwrite_with_gradient = True
    return variable


def values(variable):
    return ops.convert_to_numpy(variable).tolist()


def test_every_function_has_a_canary():
    functions = {name for name, value in vars(_keras).items() if _is_own_function(value)}
    canaries = {value.canary_of for value in globals().values() if hasattr(value, "canary_of")}
    assert functions == canaries


def _is_own_function(value):
    is_own = callable(value) and getattr(value, "__module__", "").startswith(_keras.__name__)
    return is_own and not value.__name__.startswith("_")


@relies_on("`Layer._flatten_layers`")
def test_all_layers():
    holder = Holder()
    inside = [holder.single, *holder.listed, holder.named["a"]]
    outer = keras.Sequential([holder])
    found = _keras.all_layers(outer)
    assert found[:2] == [outer, holder]
    assert {id(layer) for layer in found[2:]} == {id(layer) for layer in inside}
    assert len(found) == 6


@relies_on("`get_stateless_scope` and `in_stateless_scope`")
def test_active_scope():
    assert _keras.active_scope() is None
    with keras.StatelessScope() as outer:
        assert _keras.active_scope() is outer
        with keras.StatelessScope() as inner:
            assert _keras.active_scope() is inner
        assert _keras.active_scope() is outer
    assert _keras.active_scope() is None


@relies_on("`keras.src.backend.compute_output_spec`")
def test_compute_output_spec():
    layer = layers.Dense(3)
    layer.build((None, 4))
    spec = _keras.compute_output_spec(lambda x: layer(x) + 1.0, keras.KerasTensor((None, 4)))
    assert tuple(spec.shape) == (None, 3)

    def fail(x):
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        _keras.compute_output_spec(fail, keras.KerasTensor((None, 4)))


@relies_on("the modules of the classes behind `keras.ops`")
def test_is_operation_of_ops():
    x = keras.Input((2,))
    model = keras.Model(x, ops.relu(layers.Dense(2)(x)) + 1.0)
    found = [_keras.is_operation_of_ops(operation) for operation in model.operations]
    assert found == [False, False, True, True]


@relies_on("`Operation._inbound_nodes` and `Operation._outbound_nodes`")
def test_kept_nodes():
    first, second = layers.Dense(2), layers.Dense(2)
    model = keras.Sequential([keras.Input((2,)), first, second])
    before = [len(layer._inbound_nodes + layer._outbound_nodes) for layer in model.layers]
    with _keras.kept_nodes(model):
        outputs = model.call(keras.Input((2,)))
        assert len(first._inbound_nodes + first._outbound_nodes) > before[0]
    assert outputs.shape == (None, 2)
    assert before == [len(layer._inbound_nodes + layer._outbound_nodes) for layer in model.layers]


@relies_on("`Operation._remat_mode`")
def test_no_rematerialization():
    with keras.RematScope():
        layer = Holder()
    mode = layer.single._remat_mode
    assert mode.mode == "full"
    with _keras.no_rematerialization(layer):
        assert layer._remat_mode is layer.single._remat_mode is None
    assert layer.single._remat_mode is mode


@relies_on("`Lambda._output_shape`")
def test_output_shape_of_lambda():
    def shape(inputs):
        return inputs

    layer = layers.Lambda(lambda x: 2 * x, output_shape=shape)
    assert _keras.output_shape_of_lambda(layer) is shape
    layer = layers.Lambda(lambda x: 2 * x, output_shape=(3,))
    assert _keras.output_shape_of_lambda(layer) == (3,)


@relies_on("`Layer._tracker`")
def test_replace_sublayers():
    holder = Holder()
    holder(np.ones((1, 2), "float32"))
    old, new = list(holder.listed), [layers.ReLU(), layers.ReLU()]
    _keras.replace_sublayers(holder, "listed", new)
    assert list(holder.listed) == new
    found = _keras.all_layers(holder)
    assert all(layer in found for layer in new)
    assert not any(layer in found for layer in old)
    assert len(holder.trainable_variables) == 4
    # The built layer is locked again.
    with pytest.raises(ValueError, match="cannot"):
        holder.other = layers.Dense(2)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch alone keeps such a list")
@relies_on("a layer's `_torch_params` and `_track_variables`")
def test_track_parameters():
    holder = Holder()
    model = keras.Sequential([keras.Input((2,)), holder])
    _ = list(model.parameters())
    late = layers.Dense(3)
    late.build((None, 2))
    _keras.replace_sublayers(holder, "listed", [late])
    assert not any(parameter is late.kernel.value for parameter in model.parameters())
    _keras.track_parameters(model)
    assert any(parameter is late.kernel.value for parameter in model.parameters())


@relies_on("`Model._aggregate_additional_loss`")
def test_scaled_for_replicas():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.ActivityRegularization(l1=0.5)(inputs))
    model.compile("sgd", "mse")
    x = np.ones((1, 2), "float32")
    y_pred = model(x, training=True)
    (added,) = model.losses
    scaled = float(_keras.scaled_for_replicas(model, added))
    assert scaled == pytest.approx(1.0)
    assert float(model.compute_loss(x, x, y_pred)) == pytest.approx(scaled)


class Jump(keras.callbacks.Callback):
    """Sets another first epoch and records all epochs that begin."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch
        self.begun = []

    def on_train_begin(self, logs=None):
        _keras.set_first_epoch(self.model, self.epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)


@pytest.mark.parametrize(("epoch", "begun"), [(2, [2, 3]), (None, [1, 2, 3])])
@relies_on("`Model._initial_epoch`")
def test_set_first_epoch(epoch, begun):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() == "tensorflow")
    jump = Jump(epoch)
    x = np.ones((1, 2), "float32")
    model.fit(x, x[:, :1], initial_epoch=1, epochs=4, callbacks=[jump], verbose=0)
    assert jump.begun == begun


@relies_on("`Model._initial_epoch`")
def test_first_epoch():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    assert _keras.first_epoch(model) is None
    _keras.set_first_epoch(model, 3)
    assert _keras.first_epoch(model) == 3


ADAM = {"learning_rate": 0.5, "use_ema": True, "ema_overwrite_frequency": 1, "ema_momentum": 0.0}


@pytest.mark.parametrize("options", [{}, ADAM])
@relies_on("an optimizer's `_trainable_variables`, their indices and `_var_key`")
def test_add_overwritten(options, optimizer_of):
    optimizer, variable = optimizer_of(keras.optimizers.Adam(**options))
    slots = [v.path for v in optimizer.variables]
    gradient = overwritten()
    _keras.add_overwritten(optimizer, [gradient])
    _keras.add_overwritten(optimizer, [gradient])  # Once more changes nothing.
    gradients = [ops.ones(2), ops.convert_to_tensor([3.0, 4.0])]
    optimizer.apply(gradients, [variable, gradient])
    assert values(gradient) == [3.0, 4.0]
    assert all(value < 1 for value in values(variable))
    assert [v.path for v in optimizer.variables] == slots


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
@relies_on("`MultiOptimizer._var_to_optimizer_idx`", "add_overwritten")
def test_add_overwritten_to_one_of_several(optimizer_of):
    inner = keras.optimizers.Adam()
    optimizer, variable = optimizer_of(
        keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(inner))
    )
    gradient = overwritten()
    _keras.add_overwritten(optimizer, [gradient], position=0)
    _keras.add_overwritten(inner, [gradient])
    optimizer.apply([ops.ones(2), ops.convert_to_tensor([3.0, 4.0])], [variable, gradient])
    assert values(gradient) == [3.0, 4.0]
    assert all(value < 1 for value in values(variable))


@pytest.mark.parametrize("options", [{}, ADAM])
@relies_on("an optimizer's `_trainable_variables`, their indices and `_var_key`")
def test_remove_overwritten(options, optimizer_of):
    optimizer, variable = optimizer_of(keras.optimizers.Adam(**options))
    gradient = overwritten()
    _keras.add_overwritten(optimizer, [gradient])
    _keras.remove_overwritten(optimizer, [gradient])
    _keras.remove_overwritten(optimizer, [gradient])  # Once more changes nothing.
    optimizer.apply([ops.ones(2)])
    assert all(value < 1 for value in values(variable))
    with pytest.raises(ValueError):
        optimizer.apply([ops.ones(2)], [gradient])


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="about TensorFlow's checkpoints"
)
@relies_on("an optimizer's lists as attributes without tracking", "add_overwritten")
def test_tensorflow_saves_an_optimizer_without_overwritten_variables(optimizer_of, tmp_path):
    import tensorflow as tf

    def saved():
        path = tf.train.Checkpoint(optimizer=optimizer).save(tmp_path / "checkpoint")
        return tf.train.list_variables(path)

    optimizer, _ = optimizer_of(keras.optimizers.Adam(use_ema=True))
    gradient, before = overwritten(), saved()
    for change in (_keras.add_overwritten, _keras.remove_overwritten):
        change(optimizer, [gradient])
        assert saved() == before


class Listed(_keras.SavesListedVariables):
    """A layer with a variable in a list."""

    def build(self, input_shape):
        self.scales = [self.add_weight(shape=(2,), initializer="ones")]

    def listed_variables(self):
        return {"scale": self.scales[0]}

    def call(self, inputs):
        return inputs * self.scales[0]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="about TensorFlow's checkpoints"
)
@relies_on("`TFLayer._trackable_children`", "SavesListedVariables")
def test_tensorflow_saves_listed_variables(tmp_path):
    import tensorflow as tf

    layer = Listed()
    outer = keras.Sequential([keras.Input((2,)), layer])
    path = tf.train.Checkpoint(model=outer).save(tmp_path / "checkpoint")
    layer.scales[0].assign([0, 0])
    tf.train.Checkpoint(model=outer).restore(path).assert_existing_objects_matched()
    assert values(layer.scales[0]) == [1, 1]


def accumulate(optimizer, variable, gradient, batches):
    """Returns the values of an overwritten variable after each batch."""
    found = []
    for value in batches:
        gradients = [ops.ones(2), ops.convert_to_tensor(value)]
        optimizer.apply(gradients, [variable, gradient])
        found.append(values(gradient))
    return found


BATCHES = [[1.0, 2.0], [3.0, -1.0], [5.0, 5.0]]


@relies_on("an optimizer's `_overwrite_variables_directly_with_gradients` and `_iterations`")
def test_overwrite_at_every_batch(optimizer_of):
    optimizer, variable = optimizer_of(keras.optimizers.SGD(gradient_accumulation_steps=2))
    gradient = overwritten()
    _keras.add_overwritten(optimizer, [gradient])
    _keras.overwrite_at_every_batch(optimizer, {id(gradient): 0.5})
    found = accumulate(optimizer, variable, gradient, BATCHES)
    # Half of the value after the last step, plus the sum of the step's own batches.
    assert found == [[1.0, 2.0], [4.0, 1.0], [7.0, 5.5]]


@relies_on("an optimizer's `_overwrite_variables_directly_with_gradients`")
def test_overwrite_as_keras(optimizer_of):
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    variable, gradient = keras.Variable(np.ones(2, "float32")), overwritten()
    optimizer.build([variable, gradient])
    _keras.overwrite_at_every_batch(optimizer, {id(gradient): 0.0})
    _keras.overwrite_as_keras(optimizer)
    found = accumulate(optimizer, variable, gradient, BATCHES[:2])
    # The maximum over the batches.
    assert found[-1] == [3.0, 2.0]


@relies_on("`Variable._value`")
def test_is_stored():
    variable = keras.Variable(np.ones(2, "float32"))
    assert _keras.is_stored(variable)
    variable._value = None
    assert not _keras.is_stored(variable)


@relies_on("`in_symbolic_scope`")
def test_is_symbolic():
    found = []

    class Asking(layers.Layer):
        def call(self, x):
            found.append(_keras.is_symbolic())
            return x

    layer = Asking()
    layer(keras.Input((2,)))
    layer(np.ones((1, 2), "float32"))
    assert found == [True, False]


@relies_on("the global attribute of the seed generator")
def test_kept_random_state():
    keras.utils.set_random_seed(1)
    with _keras.kept_random_state():
        inside = values(keras.random.normal((3,)))
    assert values(keras.random.normal((3,))) == inside
    with _keras.kept_random_state():
        again = values(keras.random.normal((3,)))
    assert values(keras.random.normal((3,))) == again
    assert again != inside


@relies_on("the global attribute `stateless_scope` and how to leave a traced function")
def test_stored_values():
    variable = keras.Variable(np.ones(2, "float32"))
    with keras.StatelessScope([(variable, ops.zeros(2))]) as scope:
        assert values(variable) == [0.0, 0.0]
        with _keras.stored_values():
            assert values(variable) == [1.0, 1.0]
        assert values(variable) == [0.0, 0.0]
        assert _keras.active_scope() is scope


@relies_on("`Layer._non_trainable_variables`")
def test_is_state():
    layer = layers.BatchNormalization()
    layer.build((None, 3))
    layer.trainable = False
    assert _keras.is_state(layer, layer.moving_mean)
    assert not _keras.is_state(layer, layer.gamma)


@relies_on("an optimizer's `_exclude_from_weight_decay`")
def test_exclude_from_weight_decay():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    decayed, own, added = [
        keras.Variable(np.ones(2, "float32"), name=name) for name in ("decayed", "own", "added")
    ]
    optimizer.exclude_from_weight_decay(var_list=[own])
    _keras.exclude_from_weight_decay(optimizer, [added])
    optimizer.build([decayed, own, added])
    optimizer.apply([ops.zeros(2)] * 3)
    np.testing.assert_allclose(values(decayed), [0.95, 0.95], rtol=1e-6)
    assert values(own) == [1.0, 1.0]
    assert values(added) == [1.0, 1.0]


@relies_on("`Variable._layout`")
def test_layout_of():
    assert _keras.layout_of(keras.Variable(np.ones(2))) is None
    if keras.backend.backend() == "jax":
        mesh = keras.distribution.DeviceMesh((1,), ["batch"], keras.distribution.list_devices()[:1])
        layout = keras.distribution.TensorLayout([None], mesh)
        variable = keras.Variable(np.ones(2), layout=layout)
        assert _keras.layout_of(variable) is not None


@relies_on("an optimizer's `_trainable_variables_indices` and `_var_key`")
def test_trains(optimizer_of):
    optimizer, variable = optimizer_of(keras.optimizers.SGD())
    assert _keras.trains(optimizer, variable)
    assert not _keras.trains(optimizer, keras.Variable(np.ones(2)))


def private_uses(source):
    """Returns the underscored names that a file uses on objects of other classes.

    A class may use its own names on `self`, `cls` and other instances, and a module its own
    functions.
    """
    tree = ast.parse(source)
    return [*_foreign_attributes(tree), *_imports_of_keras_src(tree), *_inherited(tree)]


def is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _foreign_attributes(tree):
    own = {}
    for of_class in _classes(tree):
        own |= dict.fromkeys(map(id, ast.walk(of_class)), _own_names(of_class))
    for node in ast.walk(tree):
        name = _attribute(node)
        if not isinstance(name, str) or not is_private(name):
            continue
        on_itself = isinstance(target := _target(node), ast.Name) and target.id in ("self", "cls")
        if not on_itself and name not in own.get(id(node), ()):
            yield f"line {node.lineno}: {ast.unparse(node)}"


ACCESSORS = ("getattr", "setattr", "hasattr", "delattr")


def _attribute(node):
    """Returns the attribute that a node reads or sets, with a dot or `getattr` and the like."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ACCESSORS:
        return getattr(node.args[1], "value", None)
    return None


def _target(node):
    return node.value if isinstance(node, ast.Attribute) else node.args[0]


def _classes(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _own_names(tree):
    """Returns the names that classes define, or set on `self` and on new objects of `cls`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
            made = {"self", "cls", *_made_of_cls(node)}
            for stored in ast.walk(node):
                is_set = isinstance(stored, ast.Attribute) and isinstance(stored.ctx, ast.Store)
                if is_set and getattr(stored.value, "id", None) in made:
                    found.add(stored.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _made_of_cls(function):
    """Yields the variable names of new objects: `new = cls()`, `super().__new__(cls)`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            words = {word.id for word in ast.walk(node.value) if isinstance(word, ast.Name)}
            if "cls" in words:
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _imports_of_keras_src(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Attribute) and node.attr == "src":
            names = [ast.unparse(node)]
        else:
            continue
        for name in names:
            if name == "keras.src" or name.startswith("keras.src."):
                yield f"line {node.lineno}: {name}"


def _inherited(tree):
    """Yields the names that a class uses on itself and no class of the library defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = node.value.id in ("self", "cls") and is_private(node.attr)
            if used and node.attr not in _names_of_the_library():
                yield f"line {node.lineno}: {ast.unparse(node)}"


@functools.cache
def _names_of_the_library():
    trees = [ast.parse(file.read_text()) for file in FILES]
    return set().union(*(_own_names(c) for tree in trees for c in _classes(tree)))


@pytest.mark.parametrize(
    "source",
    [
        "model._initial_epoch = 3",
        "layer._flatten_layers()",
        "optimizer._var_key(variable)",
        "snapshot._values",
        "getattr(model, '_initial_epoch', None)",
        "from keras.src import backend",
        "import keras.src.backend",
        "keras.src.backend.name",
        "class Mine(keras.Model):\n    def call(self, x):\n        return self._flatten_layers()",
        "class Mine:\n    def read(self, other):\n        return other._values",
        "self.model._initial_epoch",
    ],
)
def test_private_uses_are_found(source):
    assert private_uses(source)


@pytest.mark.parametrize(
    "source",
    [
        "type(x).__module__",
        "class Mine:\n    _names = ()\n    @classmethod\n    def of(cls, other):\n"
        "        mine = cls()\n        mine._names = other._names\n        return mine",
        "class Mine:\n    def __new__(cls, *args):\n        mine = super().__new__(cls)\n"
        "        mine._args = args\n        return mine",
        "from tf_lottery._version import __version__",
    ],
)
def test_own_names_are_allowed(source):
    assert private_uses(source) == []


def test_private_attributes_are_used_in_one_room():
    found = {
        str(file.relative_to(PACKAGE.parent)): uses
        for file in FILES
        if (uses := private_uses(file.read_text()))
    }
    assert found == {}, "what is private of Keras belongs into tf_lottery/_keras"
