import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl


def flow_scores(kernels):
    """Returns the scores of two dense layers: flow into a weight * weight * flow out of it."""
    a, b = (np.abs(kernel).astype("float64") for kernel in kernels)
    return [a * b.sum(axis=1), a.sum(axis=0)[:, None] * b]


def prune_in_rounds(kernels, density, rounds):
    masks = [np.ones(kernel.shape, bool) for kernel in kernels]
    for done in range(1, rounds + 1):
        alive = [kernel * mask for kernel, mask in zip(kernels, masks, strict=True)]
        flat = np.concatenate([score.ravel() for score in flow_scores(alive)])
        num_pruned = round((1 - density ** (done / rounds)) * flat.size)
        threshold = np.sort(flat)[num_pruned]
        masks = [score >= threshold for score in flow_scores(alive)]
    return masks


def test_scores_are_shares_of_the_flow(linear_net, scores_of):
    model = tfl.sparsify(linear_net("relu"))
    expected = flow_scores(model.get_kernels().values())
    scores = scores_of("synflow", model, 0.5)
    for score, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score, wanted / wanted.sum(), rtol=1e-5)


@pytest.mark.parametrize("rounds", [1, 7, 100])
def test_masks_of_several_rounds(rounds, linear_net):
    model = tfl.sparsify(linear_net("relu"))
    expected = prune_in_rounds(list(model.get_kernels().values()), 0.3, rounds)
    masks = tfl.at_init.synflow(model, 0.7, scope="global", floor=0, rounds=rounds)
    for path, wanted in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(masks[path], wanted)
        np.testing.assert_array_equal(model.get_masks()[path], wanted)


def test_flow_is_conserved_from_layer_to_layer(scores_of):
    """The scores of a bias-free layer add up to 1 if all paths go through it."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu", use_bias=False),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(5, "relu", use_bias=False),
            layers.Dense(3, "softmax", use_bias=False),
        ]
    )
    for score in scores_of("synflow", tfl.sparsify(model), 0.5, rounds=1):
        assert score.sum() == pytest.approx(1, abs=1e-4)


def test_biases_and_statistics_count_with_their_magnitudes(scores_of):
    inputs = keras.Input((2,))
    x = layers.Dense(2, "relu", name="hidden")(inputs)
    x = layers.BatchNormalization(epsilon=0.0, name="norm")(x)
    model = keras.Model(inputs, layers.Dense(1, use_bias=False, name="output")(x))
    model.get_layer("hidden").set_weights([np.array([[1, -2], [3, 4]]), np.array([-5, 6])])
    gamma, beta, mean, variance = [-2, 3], [1, -1], [2, -3], [4, 9]
    model.get_layer("norm").set_weights([np.array(w) for w in (gamma, beta, mean, variance)])
    model.get_layer("output").set_weights([np.array([[1.0], [-1.0]])])
    # Hidden units have 1 + 3 + 5 = 9 and 2 + 4 + 6 = 12; normalized |gamma| (h - |mean|) /
    # sqrt(variance) + |beta| is 2 (9 - 2) / 2 + 1 = 8 and 3 (12 - 3) / 3 + 1 = 10.
    hidden, output = scores_of("synflow", tfl.sparsify(model), 0.5, rounds=1)
    np.testing.assert_allclose(output, [[8 / 18], [10 / 18]], rtol=1e-5)
    np.testing.assert_allclose(hidden, np.array([[1, 2], [3, 4]]) / 18, rtol=1e-5)


@pytest.mark.parametrize(
    ("hidden", "output"), [("relu6", "softmax"), ("tanh", "sigmoid"), ("silu", None)]
)
def test_activations_do_not_saturate(hidden, output, linear_net, scores_of):
    model = linear_net(hidden, output)
    for weight in model.weights:
        weight.assign(100 * weight.value)
    sparse = tfl.sparsify(model)
    expected = flow_scores(sparse.get_kernels().values())
    scores = scores_of("synflow", sparse, 0.5, rounds=1)
    for score, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score, wanted / wanted.sum(), rtol=1e-4)


def test_no_layer_is_cut_off_at_extreme_sparsity():
    """As the paper claims, pruning in rounds keeps a path where one round cuts layers off."""
    widths = [64, 100, 4, 100, 10]
    model = keras.Sequential(
        [keras.Input((widths[0],))]
        + [layers.Dense(n, "relu", use_bias=False, kernel_initializer="ones") for n in widths[1:]]
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    asked = {"sparsity": 0.998, "scope": "global", "floor": 0}
    with pytest.warns(UserWarning, match="left no weight"):
        tfl.at_init.synflow(tfl.sparsify(keras.models.clone_model(model)), rounds=1, **asked)
    sparse = tfl.sparsify(model)
    masks = tfl.at_init.synflow(sparse, rounds=30, **asked)
    assert all(mask.any() for mask in masks.values())
    path = np.ones(widths[0])
    for kernel in sparse.get_kernels().values():
        path = path @ np.abs(kernel)
    assert path.sum() > 0


@pytest.mark.parametrize("depth", [25, 50])
def test_flow_of_deep_networks_stays_in_range(depth, scores_of):
    """Every layer multiplies by 100: 1e50 overflows float32, 1e100 even with tiny inputs."""
    model = keras.Sequential(
        [keras.Input((20,))]
        + [layers.Dense(20, "relu", kernel_initializer="ones") for _ in range(depth)]
    )
    for weight in model.weights:
        weight.assign(5 * weight.value)
    sparse = tfl.sparsify(model)
    if depth == 50 and keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match="grow by a factor of 1e68"):
            tfl.at_init.synflow(sparse, 0.5, rounds=1)
        return
    with pytest.warns(UserWarning, match="left no weight"):
        scores = scores_of("synflow", sparse, 0.5, scope="global", floor=0, rounds=1)
    for score in scores:
        np.testing.assert_allclose(score, 1 / 400, rtol=1e-3)


def test_pruning_goes_on_from_the_density_of_the_model(linear_net):
    model = tfl.sparsify(linear_net(), sparsity=0.5)
    before = model.get_masks()
    masks = tfl.at_init.synflow(model, 0.75, rounds=3)
    assert all(not np.any(masks[path] & ~before[path]) for path in masks)
    assert model.sparsity == 0.75
    tfl.at_init.synflow(model, 0.5, rounds=3)
    assert model.sparsity == 0.75


def test_layers_reach_their_own_sparsities(linear_net):
    model = tfl.sparsify(linear_net())
    distribution = {"hidden": 0.75, "output": 0.25}
    masks = tfl.at_init.synflow(model, 0.5, scope="layer", distribution=distribution, rounds=3)
    assert [int(mask.sum()) for mask in masks.values()] == [3, 6]


def test_open_input_shapes_need_inputs():
    model = keras.Sequential(
        [
            keras.Input((None, None, 2)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    sparse = tfl.sparsify(model)
    with pytest.raises(ValueError, match=r"`inputs` must be given.*\(None, None, None, 2\)"):
        tfl.at_init.synflow(sparse, 0.5)
    tfl.at_init.synflow(sparse, 0.5, rounds=2, inputs=np.zeros((3, 5, 5, 2), "float32"))
    assert sparse.sparsity == 0.5


def test_outputs_that_do_not_depend_on_the_kernels_are_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Softmax()])
    sparse = tfl.sparsify(model)
    with pytest.raises(ValueError, match="must have outputs that grow with its kernels"):
        tfl.at_init.synflow(sparse, 0.5)
    assert sparse.sparsity == 0


def test_a_model_without_any_path_is_refused(linear_net):
    model = tfl.sparsify(linear_net())
    model.set_masks({path: np.zeros(k.shape, bool) for path, k in model.kernels.items()})
    with pytest.raises(ValueError, match="must have a path of weights.*outputs are 0"):
        tfl.at_init.synflow(model, 0.5)


def test_rounds_outside_their_range(linear_net):
    with pytest.raises(ValueError, match="`rounds` must be an integer > 0. Received: rounds=0"):
        tfl.at_init.synflow(tfl.sparsify(linear_net()), 0.5, rounds=0)
