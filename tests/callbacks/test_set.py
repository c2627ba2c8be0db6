import numpy as np

import tf_lottery as tfl
from tf_lottery.callbacks import SET
from tf_lottery.sparsity.schedules import Constant


def test_seed_decides_what_grows(make_model, make_data, compile_model):
    found = []
    for seed in (0, 0, 1):
        model = compile_model(tfl.sparsify(make_model("dense"), 0.7, scores="random"))
        method = SET(2, Constant(0.5), end_step=99, seed=seed)
        model.fit(*make_data("dense"), batch_size=4, shuffle=False, verbose=0, callbacks=[method])
        found.append(next(iter(model.get_masks().values())))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0] != found[2])


def test_growth_is_uniform(make_model, make_data, compile_model):
    """Over many updates every position is active about equally often."""
    # In a graph, which pays off for 150 steps.
    sparse = tfl.sparsify(make_model("dense"), 0.5, scores="random")
    model = compile_model(sparse, run_eagerly=False)
    x, y = make_data("dense", size=600)
    times = np.zeros((6, 8))

    class Count(SET):
        def on_step(self):
            super().on_step()
            times[:] += next(iter(self.model.get_masks().values()))

    method = Count(1, Constant(0.99), end_step=10**4)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[method])
    assert times.sum() == 150 * 24
    # The one or two largest of the 24 weights are never dropped.
    times = np.sort(times, axis=None)[:-4]
    assert np.ptp(times) < 0.5 * times.mean()


def test_no_gradients_are_collected(make_model, compile_model):
    model = compile_model(tfl.sparsify(make_model("dense"), 0.5))
    SET().set_model(model)
    assert model.growth.gradients == []
