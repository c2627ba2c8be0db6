import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl
from tf_lottery.layers.gradients import value_and_gradients
from tf_lottery.sparsity import group_scores

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def batches(make_data):
    x, y = make_data("residual", size=12)
    return [(x[:6], y[:6]), (x[6:], y[6:])]


def gradients_on(model, x, y):
    """The gradients of the plain model's kernels, by another way than the library's."""
    variables = list(model.kernels.values())

    def loss_of(tensors):
        replaced = {id(v): tensor for v, tensor in zip(variables, tensors, strict=True)}
        outputs, _ = model.model.stateless_call(
            [replaced.get(id(v), v.value) for v in model.model.trainable_variables],
            [v.value for v in model.model.non_trainable_variables],
            x,
            training=False,
        )
        return ops.mean(LOSS(y, outputs))

    found = value_and_gradients(loss_of, [v.value for v in variables])[1]
    return dict(zip(model.kernels, map(ops.convert_to_numpy, found), strict=True))


def test_taylor_and_obd_follow_their_formulas(make_coupled, batches):
    model = make_coupled()
    gradients, weights = [gradients_on(model, *batch) for batch in batches], model.get_kernels()
    for name, axes in (("stem", ("stem", "outer")), ("inner", ("inner",))):
        products = [[g[f"{k}/kernel"] * weights[f"{k}/kernel"] for g in gradients] for k in axes]
        taylor = np.mean([[p.sum((0, 1, 2)) ** 2 for p in kernel] for kernel in products], (0, 1))
        obd = np.mean([[(p**2).sum((0, 1, 2)) / 2 for p in kernel] for kernel in products], (0, 1))
        for kind, expected in (("taylor", taylor), ("obd", obd)):
            found = tfl.channel_scores(model, kind, batches, loss=LOSS, normalize=False)
            np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-9)


def test_activations_are_those_that_layers_read(make_coupled, batches):
    model = make_coupled()
    inner = model.model
    x = np.concatenate([batch[0] for batch in batches])
    reads = [inner.get_layer(name).input for name in ("inner", "head", "outer")]
    means = [
        np.abs(ops.convert_to_numpy(y)).reshape(-1, y.shape[-1]).mean(0)
        for y in keras.Model(inner.inputs, reads)(x)
    ]
    found = tfl.channel_scores(model, "activation", batches, normalize=False)
    np.testing.assert_allclose(found["stem"], (means[0] + means[1]) / 2, rtol=1e-5)
    np.testing.assert_allclose(found["inner"], means[2], rtol=1e-5)


def test_scores_go_to_pruning_and_change_nothing(make_coupled, batches):
    model = make_coupled()
    before = tfl.Snapshot(model).to_arrays()
    scores = tfl.channel_scores(model, "taylor", batches, loss=LOSS)
    for name, array in tfl.Snapshot(model).to_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert scores["stem"].mean() == pytest.approx(1.0)
    tfl.prune(model, 0.5, scores=scores)
    for name, kept in model.kept_channels().items():
        assert scores[name][kept].min() > scores[name][~kept].max()


@pytest.mark.backend
def test_scores_without_data_and_of_ones_own(make_coupled, batches):
    model = make_coupled()
    found = tfl.channel_scores(model, "l1")
    assert found["inner"].mean() == pytest.approx(1.0)
    seen = []

    def mine(group, weights, gradients):
        seen.append(group.name)
        return group_scores.taylor(group, weights, gradients)

    found = tfl.channel_scores(model, mine, batches, loss=LOSS)
    expected = tfl.channel_scores(model, "taylor", batches, loss=LOSS)
    np.testing.assert_allclose(found["stem"], expected["stem"], rtol=1e-5)
    assert seen == ["stem", "inner"] * 2


def test_wrong_models_and_scores_are_refused(make_model, make_coupled, batches):
    with pytest.raises(ValueError, match="`scores` must score single weights.*Received"):
        tfl.channel_scores(tfl.sparsify(make_model("residual")), "taylor", batches, loss=LOSS)
    with pytest.raises(ValueError, match="`scores` must be a function or one of.*'tailor'"):
        tfl.channel_scores(make_coupled(), "tailor", batches, loss=LOSS)
    with pytest.raises(ValueError, match="`loss` must be given"):
        tfl.channel_scores(make_coupled(), "taylor", batches)
    broken = [(np.full_like(x, np.nan), y) for x, y in batches]
    with pytest.raises(ValueError, match="Scores must be finite.*Received: scores of \\['stem'"):
        tfl.channel_scores(make_coupled(), "taylor", broken, loss=LOSS)
