import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments import exporting

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export needs Keras on TensorFlow"
)


def test_the_file_is_that_of_the_network(tmp_path, digits, small_lenet, monkeypatch):
    model = tfl.strip(tfl.sparsify(small_lenet((8, 8, 1), 10, seed=0), sparsity=0.8))
    model.save(tmp_path / "model.keras")
    assert exporting.read_export(tmp_path) is None
    found = exporting.export_run(tmp_path, digits)
    predicted = np.argmax(model.predict(digits.test[0], verbose=0), axis=-1)
    assert found["file_accuracy"] == pytest.approx(np.mean(predicted == digits.test[1]))
    assert found["file_bytes"] == (tmp_path / "exported.tflite").stat().st_size
    assert found["file_milliseconds"] > 0

    def export(*arguments, **options):
        raise RuntimeError("exports again")

    monkeypatch.setattr(exporting, "export_tflite", export)
    assert exporting.export_run(tmp_path, digits) == found == exporting.read_export(tmp_path)
    with pytest.raises(RuntimeError, match="exports again"):
        exporting.export_run(tmp_path, digits, "weight_int8")
    model.layers[-1].set_weights([2 * array for array in model.layers[-1].get_weights()])
    model.save(tmp_path / "model.keras")
    with pytest.raises(RuntimeError, match="exports again"):
        exporting.export_run(tmp_path, digits)
