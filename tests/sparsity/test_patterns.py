import keras
import numpy as np
import pytest

from tf_lottery.sparsity import patterns


def test_unstructured_leaves_scores_and_masks_alone():
    pattern, scores = patterns.get("unstructured"), np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(pattern.pool(scores), scores)
    np.testing.assert_array_equal(pattern.expand(scores > 2, (2, 3)), scores > 2)


def test_survives_serialization():
    config = keras.saving.serialize_keras_object(patterns.Unstructured())
    assert keras.saving.deserialize_keras_object(config) == patterns.Unstructured()


def test_patterns_pass_through():
    pattern = patterns.Unstructured()
    assert patterns.get(pattern) is pattern


@pytest.mark.parametrize("identifier", ["unstructred", None, 4])
def test_unknown_patterns_are_refused(identifier):
    with pytest.raises(ValueError, match="`pattern` must be .*Received"):
        patterns.get(identifier)
