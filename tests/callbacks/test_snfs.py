import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import SNFS, RigL
from tf_lottery.callbacks.snfs import share_out
from tf_lottery.sparsity.schedules import Constant

pytestmark = pytest.mark.backend


@pytest.mark.parametrize(
    ("total", "weights", "room", "expected"),
    [
        (10, [3.0, 1.0, 1.0], [4, 9, 9], [4, 3, 3]),
        (10, [3.0, 1.0, 1.0], [9, 9, 9], [6, 2, 2]),
        (7, [1.0, 1.0], [9, 9], [4, 3]),
        (5, [0.0, 0.0], [1, 9], [1, 4]),
        (9, [1.0, 2.0], [4, 5], [4, 5]),
        (9, [8.0, 0.0], [4, 5], [4, 5]),
        (0, [8.0, 1.0], [4, 5], [0, 0]),
    ],
)
def test_share_out(total, weights, room, expected):
    found = share_out(total, dict(enumerate(weights)), dict(enumerate(room)))
    assert [found[i] for i in range(len(weights))] == expected


def test_redistribution_moves_weights_where_momentum_is_large(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model("dense"), 0.5, scores="random"))
    before = {path: mask.sum() for path, mask in model.get_masks().items()}
    expected = {}

    class Method(SNFS):
        def num_grown(self, masks, fraction, gradients):
            means = {p: np.abs(gradients[p][masks[p]]).mean() for p in masks}
            dropped = {p: int(masks[p].sum() * fraction) for p in masks}
            total = sum(dropped.values())
            for path in masks:
                share = total * means[path] / sum(means.values())
                expected[path] = before[path] - dropped[path] + share
            return super().num_grown(masks, fraction, gradients)

    method = Method(6, Constant(0.3), end_step=7, redistribution=True)
    model.fit(*make_data("dense"), batch_size=4, shuffle=False, verbose=0, callbacks=[method])
    after = {path: mask.sum() for path, mask in model.get_masks().items()}
    assert sum(after.values()) == sum(before.values())
    assert after != before
    for path, count in after.items():
        assert abs(count - expected[path]) < 1


@pytest.mark.filterwarnings("ignore:Training ended")
@pytest.mark.parametrize(
    ("make_method", "decay"),
    [
        (lambda where: SNFS(100, momentum=0.8, **where), 0.8),
        (lambda where: RigL(100, grad_accumulation=100, **where), 1.0),
    ],
)
def test_a_model_called_twice_in_a_step_keeps_its_average_once(
    make_method, decay, make_model, compile_model
):
    part = tfl.sparsify(make_model("dense"), 0.5, scores="random")
    first, second = keras.Input((6,)), keras.Input((6,))
    difference = keras.layers.Subtract()([part(first), part(second)])
    whole = compile_model(keras.Model([first, second], difference), keras.optimizers.SGD(0.0))
    x = list(np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32"))
    averages = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: averages.append(np.array(part.growth.gradients[0]))
    )
    method = make_method({"sparse_model": part, "end_step": 1000})
    whole.fit(x, np.array([0, 1, 2, 0]), epochs=3, verbose=0, callbacks=[method, watch])
    # All steps have the same gradient.
    for steps, average in enumerate(averages, start=1):
        expected = averages[0] * sum(decay**step for step in range(steps))
        np.testing.assert_allclose(average, expected, rtol=1e-4)
    assert np.any(averages[0] != 0)


def test_redistribution_needs_freedom(make_model, compile_model):
    layers = [keras.Input((8,)), keras.layers.Dense(4)]
    model = compile_model(tfl.sparsify(keras.Sequential(layers), 0.5, pattern="2:4"))
    with pytest.raises(ValueError, match="`redistribution` must be `False`"):
        SNFS(redistribution=True).set_model(model)


def test_momentum_is_a_fraction():
    with pytest.raises(ValueError, match="`momentum` must be in"):
        SNFS(momentum=1.0)


def test_redistribution_fills_no_kernel(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model("dense"), 0.3, scores="random"))
    size, before = 72, sum(mask.sum() for mask in model.get_masks().values())
    method = SNFS(1, Constant(0.5), end_step=999, redistribution=True)
    model.fit(
        *make_data("dense"), batch_size=4, epochs=6, shuffle=False, verbose=0, callbacks=[method]
    )
    masks = model.get_masks().values()
    assert sum(mask.sum() for mask in masks) == before < size
    assert not any(mask.all() for mask in masks)


def test_snapshot_forgets_the_momentum_of_later_training(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model("dense"), 0.5, scores="random"))
    start, found = tfl.Snapshot(model), []
    for _ in range(2):
        start.restore(model)
        method = SNFS(2, Constant(0.4), end_step=5)
        model.fit(*make_data("dense"), batch_size=4, shuffle=False, verbose=0, callbacks=[method])
        found.append([*model.get_masks().values(), *map(np.array, model.growth.explored)])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
