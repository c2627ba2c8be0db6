"""Script for the tests: trains on two devices with `keras.distribution.DataParallel`."""

import keras
import numpy as np

import tf_lottery as tfl

if __name__ == "__main__":
    devices = keras.distribution.list_devices()
    assert len(devices) == 2, devices
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    inputs = keras.Input((6,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8, "relu")(inputs))
    model = tfl.sparsify(keras.Model(inputs, keras.layers.Dense(3)(hidden)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 6)).astype("float32"), rng.integers(0, 3, 48)
    search = tfl.callbacks.IterativeMagnitudePruning(2, 1, rate=0.5, rewind_to_step=2, verbose=0)
    model.fit(x, y, batch_size=8, epochs=search.epochs, verbose=0, callbacks=[search])
    assert [ticket.density for ticket in search.tickets] == [1.0, 0.5, 0.25]
    predictions = model.predict(x, batch_size=8, verbose=0)
    stripped = tfl.strip(model).predict(x, batch_size=8, verbose=0)
    np.testing.assert_allclose(stripped, predictions, atol=1e-6)
    # Fewer variables are trained after the last change of masks than during the training.
    model.evaluate(x, y, batch_size=8, verbose=0)
    moving = tfl.callbacks.RigL(frequency=2, end_step=14)
    validation = {"validation_data": (x, y), "validation_batch_size": 8}
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[moving], **validation)
    model.evaluate(x, y, batch_size=8, verbose=0)
    assert model.density == 0.25
