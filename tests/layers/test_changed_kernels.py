"""Layers that do not multiply with the kernel that is pruned."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl
from tf_lottery.layers import Masked

pytestmark = pytest.mark.backend


class WeightNorm(layers.Layer):
    """Computes its kernel from a stored variable of the same name."""

    def build(self, input_shape):
        self.direction = self.add_weight(shape=(input_shape[-1], 3), name="kernel")

    @property
    def kernel(self):
        return self.direction / ops.norm(self.direction, axis=0)

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel)


# A layer, the shape of its inputs and the argument `include`.
WITH_LORA = {
    "dense": (lambda: layers.Dense(3, name="a"), (4,), None),
    "einsum": (lambda: layers.EinsumDense("ab,bc->ac", 3, name="a"), (4,), None),
    "convolution": (lambda: layers.Conv2D(3, 2, name="a"), (4, 4, 2), None),
    "embedding": (lambda: layers.Embedding(9, 4, name="a"), (2,), "embeddings"),
}


def make(kind):
    layer, shape, include = WITH_LORA[kind]
    dtype = "int32" if kind == "embedding" else None
    head = [layers.Flatten(), layers.Dense(3, name="head")]
    return keras.Sequential([keras.Input(shape, dtype=dtype), layer(), *head]), include


def compiled(sparse):
    eagerly = keras.backend.backend() == "tensorflow"
    sparse.compile("sgd", "mse", run_eagerly=eagerly)
    x = np.zeros((2, *sparse.input_shape[1:]), sparse.inputs[0].dtype)
    return sparse, x, np.zeros((2, 3), "float32")


USES = {
    "call": lambda sparse, x, y, path: sparse(x),
    "predict": lambda sparse, x, y, path: sparse.predict(x, verbose=0),
    "fit": lambda sparse, x, y, path: sparse.fit(x, y, verbose=0),
    "evaluate": lambda sparse, x, y, path: sparse.evaluate(x, y, verbose=0),
    "train_on_batch": lambda sparse, x, y, path: sparse.train_on_batch(x, y),
    "strip": lambda sparse, x, y, path: tfl.strip(sparse),
    "settled": lambda sparse, x, y, path: sparse.settled().__enter__(),
    "summary": lambda sparse, x, y, path: tfl.summary(sparse),
    "flops": lambda sparse, x, y, path: tfl.flops(sparse),
    "save": lambda sparse, x, y, path: sparse.save(path / "model.keras"),
    "save_weights": lambda sparse, x, y, path: sparse.save_weights(path / "m.weights.h5"),
    "export": lambda sparse, x, y, path: sparse.export(path / "saved"),
    "compact": lambda sparse, x, y, path: tfl.compact(sparse),
    "ticket": lambda sparse, x, y, path: tfl.Ticket.from_model(sparse),
    "snapshot": lambda sparse, x, y, path: tfl.Snapshot(sparse),
    "prune": lambda sparse, x, y, path: tfl.prune(sparse, 0.7),
    "get_config": lambda sparse, x, y, path: sparse.get_config(),
    "get_masks": lambda sparse, x, y, path: sparse.get_masks(),
    "get_weights": lambda sparse, x, y, path: sparse.get_weights(),
    "sparsity": lambda sparse, x, y, path: sparse.sparsity,
}


# On JAX, Keras before 3.14 raises a `RuntimeError` with the message of an error in a call.
REFUSALS = (ValueError, RuntimeError) if keras.version() < "3.14" else ValueError


@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_changed_layer_is_refused(use, make_model, tmp_path):
    model, _ = make("dense")
    sparse, x, y = compiled(tfl.sparsify(model, sparsity=0.5))
    # Functions that are already compiled would ignore the change.
    sparse.fit(x, y, verbose=0)
    sparse.predict(x, verbose=0)
    model.get_layer("a").enable_lora(1)
    with pytest.raises(REFUSALS, match="Layer 'a' got LoRA adapters.*Call `tfl.strip` before"):
        USES[use](sparse, x, y, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", WITH_LORA)
def test_adapters_are_refused_before_and_after(kind):
    model, include = make(kind)
    sparse, x, _ = compiled(tfl.sparsify(model, sparsity=0.5, include=include))
    model.get_layer("a").enable_lora(1)
    with pytest.raises(ValueError, match="Layer 'a' got LoRA adapters"):
        sparse.predict(x, verbose=0)
    model, include = make(kind)
    model.get_layer("a").enable_lora(1)
    with pytest.raises(ValueError, match="Layer 'a' multiplies.*LoRA.*Leave it out with `exclude`"):
        tfl.sparsify(model, sparsity=0.5, include=include)


@pytest.mark.parametrize("first", ["adapters", "sparsify"])
def test_a_layer_with_adapters_can_be_left_out(first, tmp_path):
    model, _ = make("dense")
    if first == "adapters":
        model.get_layer("a").enable_lora(1)
    sparse = tfl.sparsify(model, sparsity=0.5, exclude="a/")
    if first == "sparsify":
        model.get_layer("a").enable_lora(1)
    sparse, x, y = compiled(sparse)
    sparse.fit(x, y, verbose=0)
    assert sparse.sparsity == pytest.approx(0.5, abs=0.1)
    expected = sparse.predict(x, verbose=0)
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-6)
    assert tfl.strip(sparse) is model


def test_quantizing_is_refused_and_says_to_strip():
    sparse = tfl.sparsify(make("dense")[0], sparsity=0.5)
    with pytest.raises(ValueError, match=r"Strip it first.*`tfl.strip\(model\).*mode='int8'"):
        sparse.quantize("int8")
    assert sparse.sparsity > 0.4


def test_a_quantized_layer_is_refused():
    model, _ = make("dense")
    sparse, x, _ = compiled(tfl.sparsify(model, sparsity=0.5))
    sparse.predict(x, verbose=0)
    model.quantize("int8")
    with pytest.raises(ValueError, match="Layer 'a' was quantized to int8.*`tfl.strip`"):
        sparse.predict(x, verbose=0)


def test_computed_kernels_are_refused():
    model = keras.Sequential([keras.Input((4,)), WeightNorm(name="norm"), layers.Dense(3)])
    with pytest.raises(ValueError, match="Layer 'norm' multiplies.*computes it"):
        tfl.sparsify(model)
    assert len(tfl.sparsify(model, exclude="norm/").kernels) == 1


def test_two_weights_of_the_same_name():
    class Twins(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(3, 3), name="kernel")
            self.other = self.add_weight(shape=(3, 3), name="kernel")

        def call(self, inputs):
            return ops.matmul(ops.matmul(inputs, self.kernel), self.other)

    masked = Masked(Twins())
    masked.build((None, 3))
    assert len(masked.kernels) == 2
