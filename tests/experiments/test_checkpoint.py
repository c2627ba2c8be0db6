import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments.checkpoint import Checkpoint


class LogEpoch(keras.callbacks.Callback):
    """Logs after the checkpoint callback, and aborts training at a given epoch."""

    def __init__(self, die_at=None):
        super().__init__()
        self.die_at = die_at

    def on_epoch_end(self, epoch, logs=None):
        logs["number"] = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.die_at:
            raise KeyboardInterrupt


@pytest.fixture
def fit(make_model, make_data, compile_model):
    x, y = make_data()

    def fit(path, die_at=None, **kwargs):
        model = compile_model(tfl.sparsify(make_model(), sparsity=0.5), **kwargs)
        checkpoint = Checkpoint(path)
        callbacks = [checkpoint, LogEpoch(die_at)]
        model.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
        return model, checkpoint.history

    return fit


def test_goes_on_with_weights_and_history(fit, tmp_path):
    model, history = fit(tmp_path / "a.npz")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b.npz", die_at=2)
    again, found = fit(tmp_path / "b.npz")
    assert found == history
    assert history["number"] == [0, 1, 2]
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_training_is_not_repeated(fit, tmp_path):
    model, history = fit(tmp_path / "a.npz", run_eagerly=True)
    again, found = fit(tmp_path / "a.npz", run_eagerly=True)
    assert found == history
    np.testing.assert_array_equal(model.weights[0], again.weights[0])


def test_the_next_training_starts_at_its_first_epoch(fit, tmp_path, make_data):
    fit(tmp_path / "a.npz", run_eagerly=True)
    model, _ = fit(tmp_path / "a.npz", run_eagerly=True)
    assert model.fit(*make_data(), epochs=2, verbose=0).epoch == [0, 1]
