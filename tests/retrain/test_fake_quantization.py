import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl
from tf_lottery.layers.fake_quantization import FakeQuantization
from tf_lottery.retrain._fake_quantization import find_targets


@pytest.fixture
def trained(make_model, make_data):
    """A dense model with half of its weights, trained for two steps with rounding, and data."""
    model = tfl.sparsify(make_model("dense"), 0.5)
    tfl.retrain.fake_quantization(model)
    x, y = make_data("dense")[:2]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    model.fit(x, y, batch_size=len(x) // 2, verbose=0, shuffle=False)
    return model, x


def rounded_kernel(kernel):
    scale = np.abs(kernel).max(axis=0) / 127
    return np.rint(kernel / scale) * scale


def rounded(x, tracked):
    low, high = tracked.range()
    scale = (max(high, 0) - min(low, 0)) / 255
    zero_point = np.rint(-128 - min(low, 0) / scale)
    return (np.clip(np.rint(x / scale) + zero_point, -128, 127) - zero_point) * scale


@pytest.mark.backend
def test_trained_model_computes_as_the_integers_do(trained):
    model, x = trained
    tweak = model.find_part(FakeQuantization)
    assert tweak.layer_names == ["hidden", "output"]
    (first, bias), (second, last) = (
        map(ops.convert_to_numpy, layer.weights) for layer in model.model.layers
    )
    masks = list(model.get_masks().values())
    for kernel, mask in zip((first, second), masks, strict=True):
        np.testing.assert_array_equal(kernel == 0, ~mask)
    inputs, hidden, outputs = tweak.ranges
    y = np.maximum(rounded(x, inputs) @ rounded_kernel(first) + bias, 0)
    y = rounded(rounded(y, hidden) @ rounded_kernel(second) + last, outputs)
    low, high = outputs.range()
    np.testing.assert_allclose(model(x), y, atol=1.01 * (high - low) / 255)
    assert np.abs(ops.convert_to_numpy(model.model(x)) - y).max() > 1e-4


@pytest.mark.backend
def test_half_precision_rounds_to_the_steps_of_the_full_kernel():
    kernel = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    dense = layers.Dense(8, use_bias=False, dtype="mixed_bfloat16")
    plain = keras.Sequential([keras.Input((64,)), dense])
    dense.kernel.assign(kernel)
    model = tfl.sparsify(plain)
    tfl.retrain.fake_quantization(model)
    found = ops.convert_to_numpy(ops.cast(model(np.eye(64, dtype="float32")), "float32"))
    expected = ops.convert_to_numpy(
        ops.cast(ops.cast(rounded_kernel(kernel), "bfloat16"), "float32")
    )
    np.testing.assert_array_equal(found, expected)


def test_trains_compiled_beside_other_tweaks():
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype("float32")
    stack = [keras.Input((6, 6, 1)), layers.Conv2D(2, 3, padding="same", activation="relu")]
    plain = keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(2)])
    model = tfl.sparsify(plain, 0.5)
    soft, ghosts = tfl.retrain.soft_activations(model), tfl.retrain.ghost_skips(model)
    tfl.retrain.fake_quantization(model)
    model.compile("sgd", "mse")
    before = [ops.convert_to_numpy(variable) for variable in ghosts.variables]
    model.fit(x, np.zeros((8, 2)), batch_size=4, verbose=0)
    for variable, old in zip(ghosts.variables, before, strict=True):
        assert variable is ghosts.factor or np.any(ops.convert_to_numpy(variable) != old)
    assert all(tracked.range() for tracked in model.find_part(FakeQuantization).ranges)
    outputs = model.predict(x, verbose=0)
    soft.softness.assign(0.1)
    assert np.any(model.predict(x, verbose=0) != outputs)


def test_ranges_are_saved_restored_and_removed(trained, tmp_path):
    model, x = trained
    before = ops.convert_to_numpy(model(x))
    snapshot = tfl.Snapshot(model)
    model.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    np.testing.assert_array_equal(loaded(x), before)
    for tracked in model.find_part(FakeQuantization).ranges:
        tracked.limits.assign([-0.1, 0.1])
    assert np.abs(ops.convert_to_numpy(model(x)) - before).max() > 0.01
    snapshot.restore(model)
    np.testing.assert_array_equal(model(x), before)
    plain = ops.convert_to_numpy(model.model(x))
    tfl.retrain.remove_fake_quantization(model)
    np.testing.assert_allclose(model(x), plain, atol=1e-6)
    assert model.tweaks == []
    np.testing.assert_allclose(tfl.strip(loaded)(x), plain, atol=1e-6)


def test_values_are_rounded_where_the_file_has_a_tensor(make_residual):
    inputs, targets = find_targets(make_residual())
    assert inputs == [0]
    kernels = [target["name"] for target in targets if target["kernels"]]
    assert kernels == ["stem", "first", "second", "third", "output"]
    after = ["stem", "first_relu", "second_norm", "second_relu", "third_relu", "pool", "output"]
    assert [target["name"] for target in targets if target["after"]] == after
    assert not any(target["before"] for target in targets)


def test_other_activations_than_rectifiers_have_a_tensor_before_them():
    inputs = {"a": keras.Input((4, 4, 2), name="a"), "b": keras.Input((3,), dtype="int32")}
    x = layers.Flatten()(layers.SeparableConv2D(3, 2, activation="silu", name="conv")(inputs["a"]))
    x = keras.ops.relu(layers.Dense(4, name="dense")(x))
    x = layers.Concatenate(name="join")([x, layers.Flatten()(layers.Embedding(5, 2)(inputs["b"]))])
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="output")(x))
    positions, targets = find_targets(model)
    assert positions == [0]
    places = {t["name"]: (list(t["kernels"]), t["before"], t["after"]) for t in targets}
    assert places == {
        "conv": (["depthwise_kernel", "pointwise_kernel"], True, True),
        "dense": (["kernel"], False, False),
        "join": ([], False, True),
        "output": (["kernel"], True, False),
    }


def test_models_without_final_masks_or_kernels_are_refused(make_model):
    gated = tfl.sparsify(make_model("dense"), gate=tfl.SoftGate())
    with pytest.raises(ValueError, match="Received"):
        tfl.retrain.fake_quantization(gated)
    lookup = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(5, 2)])
    model = tfl.sparsify(lookup, include=lambda *_: True)
    with pytest.raises(ValueError, match="dense or convolutional layers"):
        tfl.retrain.fake_quantization(model)
