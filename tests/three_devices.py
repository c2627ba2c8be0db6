"""Script for the tests: trains on one device and on three, which cannot share every batch."""

import tempfile
import warnings

import keras
import numpy as np

from tf_lottery.experiments.data import Data
from tf_lottery.experiments.devices import count_devices, evaluation_batch_size, on_all_devices
from tf_lottery.experiments.training import TrainSettings, run_training

if __name__ == "__main__":
    rng = np.random.default_rng(0)

    def examples(count):
        return rng.normal(size=(count, 6)).astype("float32"), np.arange(count) % 4

    # Three devices share all 1,002 examples, but not all 1,004.
    data = Data("made", examples(24), examples(1004), examples(1002))
    settings = TrainSettings("rigl", "lenet-300-100", 0.5, epochs=2, batch_size=6, frequency=2)
    alone = run_training(data, settings, tempfile.mkdtemp(), verbose=0)
    assert evaluation_batch_size(data.test) == 1000
    with on_all_devices(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert count_devices() == 3
        assert isinstance(keras.distribution.distribution(), keras.distribution.DataParallel)
        sizes = [evaluation_batch_size(part) for part in (data.validation, data.test)]
        assert sizes == [1000, 999]
        shared = run_training(data, settings, tempfile.mkdtemp(), verbose=0)
    messages = [str(one.message) for one in caught if "devices" in str(one.message)]
    assert messages and all("1000 examples cannot be shared" in one for one in messages), messages
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(shared["history"][name], alone["history"][name], rtol=1e-4)
    np.testing.assert_allclose(shared["test_loss"], alone["test_loss"], rtol=1e-4)
    assert shared["density"] == alone["density"]
