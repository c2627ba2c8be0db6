import numpy as np
import pytest

from tf_lottery.experiments import data
from tf_lottery.experiments.data import named
from tf_lottery.experiments.data.speech import fixed_length, mfcc


def test_features_are_those_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    clips = np.random.default_rng(0).normal(0, 0.1, (2, 16000)).astype("float32")
    spectrum = tf.abs(tf.signal.stft(clips, 480, 320, 512))
    weights = tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 4000.0)
    bands = tf.math.log(spectrum @ weights + 1e-6)
    expected = tf.signal.mfccs_from_log_mel_spectrograms(bands)[..., :10]
    np.testing.assert_allclose(mfcc(clips)[..., 0], expected, atol=2e-3)


def test_clips_have_one_second():
    np.testing.assert_array_equal(fixed_length(np.array([16384, -32768]))[:3], [0.5, -1, 0])
    assert fixed_length(np.zeros(20000, "int16")).shape == (16000,)


def test_speech_commands(monkeypatch):
    def read(name, splits, data_dir, download):
        assert (name, splits) == ("speech_commands", ["train", "validation", "test"])
        return [iter([(np.zeros(9000 + i, "int16"), i % 2) for i in range(n)]) for n in (300, 2, 1)]

    monkeypatch.setattr(named, "read_examples", read)
    found = data.load("speech_commands")
    assert [len(y) for _, y in (found.train, found.validation, found.test)] == [300, 2, 1]
    assert (found.input_shape, found.num_classes) == ((49, 10, 1), 2)
