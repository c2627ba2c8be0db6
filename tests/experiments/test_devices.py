import types

import keras
import numpy as np
import pytest

from tf_lottery.experiments.devices import evaluation_batch_size


@pytest.mark.parametrize(
    ("devices", "count", "expected"),
    [
        (1, 5000, 1000),
        (8, 5000, 1000),
        # 5,004 is five times 999 and 9; three devices share both.
        (3, 5004, 999),
        # Of 5,000 examples the last are left over, whatever the batch.
        (3, 5000, 1000),
        (8, 5004, 999),
    ],
)
def test_devices_share_all_batches_or_none(monkeypatch, devices, count, expected):
    mesh = types.SimpleNamespace(shape=(devices,))
    distribution = types.SimpleNamespace(device_mesh=mesh)
    monkeypatch.setattr(keras.distribution, "distribution", lambda: distribution)
    size = evaluation_batch_size((np.zeros((count, 1)), np.zeros(count)))
    shared = {batch % devices == 0 for batch in (size, count % size or size)}
    assert (size, len(shared)) == (expected, 1)
    assert evaluation_batch_size(("a data set",)) == evaluation_batch_size(None) == 1000
