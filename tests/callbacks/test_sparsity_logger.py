import keras
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import SparsityLogger


def test_history_receives_the_sparsity(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.75))
    history = model.fit(*make_data(), epochs=2, verbose=0, callbacks=[SparsityLogger()])
    assert history.history["sparsity"] == [0.75, 0.75]


def test_later_callbacks_can_monitor_it(make_model, make_data, compile_model, tmp_path):
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.75))
    path = str(tmp_path / "{model_sparsity:.2f}.weights.h5")
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model.fit(*make_data(), verbose=0, callbacks=[SparsityLogger(prefix="model_"), save])
    assert (tmp_path / "0.75.weights.h5").exists()


def test_tensorboard_receives_scalars_and_histograms(
    make_model, make_data, compile_model, tmp_path
):
    pytest.importorskip("tensorboard")
    tensorflow = pytest.importorskip("tensorflow")
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.75))
    model.fit(*make_data(), epochs=2, verbose=0, callbacks=[SparsityLogger(tmp_path / "logs")])
    found = {}
    for path in (tmp_path / "logs").iterdir():
        for event in tensorflow.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    kernels = list(model.kernels)
    assert found["sparsity"] == [0, 1]
    assert all(f"sparsity/{path}" in found and f"kept/{path}" in found for path in kernels)
