import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.calibration import calibrated_scores
from tf_lottery.calibration.obs import inverse_factor


def network(inputs=8, **kwargs):
    model = keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(4, "relu", name="hidden", **kwargs),
            layers.Dense(2, name="output"),
        ],
        name="net",
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def data(inputs=8, size=30):
    rng = np.random.default_rng(1)
    mixed = rng.normal(size=(size, inputs)) @ rng.normal(size=(inputs, inputs))
    return mixed.astype("float32")


def surgeon_by_force(weights, hessian, choose, size):
    """Prunes by the inverses of all Hessians of the inputs that are left, one after another."""
    weights, num_inputs, mask = weights.copy(), size, np.ones((size, weights.shape[1]), bool)
    for start in range(0, num_inputs, choose.size):
        rows = range(start, start + choose.size)
        diagonal = [np.linalg.inv(hessian[row:, row:])[0, 0] for row in rows]
        mask[list(rows)] = choose(np.square(weights[list(rows)]) / np.array(diagonal)[:, None])
        for row in rows:
            inverse = np.linalg.inv(hessian[row:, row:])
            for unit in range(weights.shape[1]):
                if not mask[row, unit]:
                    move = weights[row, unit] / inverse[0, 0]
                    weights[row:, unit] -= move * inverse[:, 0]
    return weights, mask


def keep_highest(size, share):
    def choose(costs):
        order = np.argsort(-costs, axis=None, kind="stable")
        kept = np.zeros(costs.size, bool)
        kept[order[: round(share * costs.size)]] = True
        return kept.reshape(costs.shape)

    choose.size = size
    return choose


def keep_two_of_four(costs):
    return np.argsort(np.argsort(-costs, axis=0), axis=0) < 2


keep_two_of_four.size = 4


def keep_blocks(costs):
    means = costs.reshape(-1, 4, costs.shape[1]).mean(axis=1)
    return keep_highest(0, 0.5)(means).repeat(4, axis=0)


keep_blocks.size = 8


@pytest.mark.parametrize(
    ("pattern", "sparsity", "choose"),
    [("unstructured", 0.75, keep_highest(8, 0.25)), ("2:4", 0.5, keep_two_of_four)]
    + [("4x1", 0.5, keep_blocks)],
)
def test_obs_equals_surgery_by_force(pattern, sparsity, choose):
    model = network()
    x = data()
    inputs = np.concatenate([x, np.ones((30, 1))], axis=1)
    hessian = inputs.T @ inputs
    hessian += 0.01 * np.trace(hessian) / 9 * np.eye(9)
    weights = np.vstack(model.get_layer("hidden").get_weights()).astype("float64")
    expected, mask = surgeon_by_force(weights, hessian, choose, 8)
    sparse = tfl.sparsify(model, pattern=pattern, include="hidden")
    masks = tfl.prune(sparse, sparsity, scores="obs", data=x)
    np.testing.assert_array_equal(masks["net/hidden/kernel"], mask)
    found = np.vstack(model.get_layer("hidden").get_weights())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_obs_of_a_later_layer_starts_from_the_outputs_of_the_dense_network():
    model = network()
    x = data()
    kernel, bias, *later = (np.array(weight, "float64") for weight in model.get_weights())
    old = np.vstack(later)
    targets = np.maximum(x @ kernel + bias, 0) @ old[:4] + old[4]
    sparse = tfl.sparsify(model)
    masks = tfl.prune(sparse, 0.5, scores="obs", data=x)
    kernel, bias, *later = model.get_weights()
    inputs = np.concatenate([np.maximum(x @ kernel + bias, 0), np.ones((30, 1))], axis=1)
    damping = 0.01 * np.square(inputs).sum() / 5 * np.eye(5)
    hessian = inputs.T @ inputs + damping
    start = np.linalg.solve(hessian, inputs.T @ targets + damping @ old)
    expected, mask = surgeon_by_force(start, hessian, keep_highest(4, 0.5), 4)
    np.testing.assert_array_equal(masks["net/output/kernel"], mask)
    np.testing.assert_allclose(np.vstack(later), expected, atol=1e-4)


@pytest.mark.backend
def test_obs_keeps_the_asked_number_and_computes_closer_to_the_dense_network():
    x = data()
    dense = np.array(keras.ops.convert_to_numpy(network()(x)))
    errors = {}
    for scores in ("magnitude", "obs"):
        sparse = tfl.sparsify(network())
        arguments = {} if scores == "magnitude" else {"data": x}
        tfl.prune(sparse, 0.5, scores=scores, **arguments)
        assert sparse.sparsity == 0.5
        found = keras.ops.convert_to_numpy(sparse(x))
        errors[scores] = float(np.square(found - dense).mean())
    assert errors["obs"] < 0.5 * errors["magnitude"]


def test_obs_refines_masks_and_takes_a_sparsity_for_every_kernel():
    sparse = tfl.sparsify(network(), 0.25)
    before = sparse.get_masks()
    share = {"net/hidden/kernel": 0.5, "net/output/kernel": 0.25}
    masks = tfl.prune(sparse, share, scores="obs", data=data())
    for path, mask in masks.items():
        assert not (mask & ~before[path]).any()
        assert (~mask).mean() == share[path]
        assert not np.array(sparse.kernels[path])[~mask].any()


def test_blocks_get_as_many_zeros_as_their_costs_ask_for(monkeypatch):
    monkeypatch.setattr("tf_lottery.calibration.obs.BLOCK_SIZE", 4)
    x = np.random.default_rng(1).normal(size=(30, 8))
    x[:, :4] = 0
    model = network()
    model.get_layer("hidden").kernel.assign(np.ones((8, 4)))
    sparse = tfl.sparsify(model, include="hidden")
    mask = tfl.prune(sparse, 0.5, scores="obs", data=x)["net/hidden/kernel"]
    # Weights of inputs that are always zero cost nothing.
    np.testing.assert_array_equal(mask, np.repeat([[False] * 4, [True] * 4], 4, axis=0))


def test_obs_of_groups_and_of_unknown_layers():
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(4, 2, groups=2, name="grouped")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="top")(layers.GRU(3, name="gru")(x)))
    sparse = tfl.sparsify(model)
    x = np.random.default_rng(0).normal(size=(12, 6, 4))
    with pytest.warns(UserWarning, match="by magnitude.*gru"):
        masks = tfl.prune(sparse, 0.5, scores="obs", data=x)
    assert len(masks) == 4
    assert all(mask.sum() == mask.size - round(0.5 * mask.size) for mask in masks.values())


def test_factor_of_inputs_that_are_always_zero():
    np.testing.assert_array_equal(inverse_factor(np.zeros((3, 3)), 0.01), np.eye(3))


def test_wanda_prunes_equally_many_weights_of_every_unit():
    model = network()
    x = data()
    norms = np.linalg.norm(x, axis=0)
    scores = np.abs(np.array(model.get_layer("hidden").kernel)) * norms[:, None]
    expected = np.argsort(np.argsort(scores, axis=0), axis=0) >= 4
    sparse = tfl.sparsify(model)
    masks = tfl.prune(sparse, 0.5, scores="wanda", data=x)
    np.testing.assert_array_equal(masks["net/hidden/kernel"], expected)


def test_wanda_advises_obs_at_high_sparsity():
    sparse = tfl.sparsify(network())
    with pytest.warns(UserWarning, match="Use 'obs' there"):
        tfl.prune(sparse, 0.75, scores="wanda", data=data())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": "obs"}, "`data` must be"),
        ({"data": np.ones((3, 8))}, "`data` must be"),
        ({"scores": "obs", "data": np.ones((3, 8)), "scope": "global"}, "`scope` must be 'layer'"),
        (
            {"scores": "obs", "data": np.ones((3, 8)), "pattern": "channel"},
            "`pattern` must not be 'channel'",
        ),
        ({"scores": "obs", "data": np.ones((0, 8))}, "`data` must have at least one"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfl.prune(tfl.sparsify(network()), 0.5, **arguments)


@pytest.mark.parametrize("scores", ["magnitude", "obs", "wanda"])
@pytest.mark.parametrize("name", [None, "net/ouput/kernel"])
def test_a_sparsity_for_every_kernel_has_their_names(scores, name):
    sparsity = {"net/hidden/kernel": 0.5, **({name: 0.5, "net/output/kernel": 0.5} if name else {})}
    arguments = {} if scores == "magnitude" else {"data": np.ones((3, 8))}
    with pytest.raises(ValueError, match="`sparsity` must have the names"):
        tfl.prune(tfl.sparsify(network()), sparsity, scores=scores, **arguments)


@pytest.mark.parametrize("sparsity", ["0.9", {"net/hidden/kernel": "0.9"}])
def test_the_sparsity_is_checked_first(sparsity):
    with pytest.raises(ValueError, match="`sparsity.* must be a number"):
        tfl.prune(tfl.sparsify(network()), sparsity, scores="wanda", data=np.ones((3, 8)))


def test_names_of_the_scores_are_those_of_prune():
    assert all(name in tfl.prune.__doc__ for name in calibrated_scores.CALIBRATED)
