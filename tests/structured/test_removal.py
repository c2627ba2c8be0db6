import warnings

import keras
import pytest
from keras import layers, ops

import tf_lottery as tfl


def network(between):
    """A network of three channel groups, with a call between those of `first` and `third`."""
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(4, 1, name="first")(inputs)
    x = layers.Conv1D(4, 1, name="third")(between(layers.ReLU()(x)))
    x = layers.Dense(4, name="free")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, inputs):
        return inputs * self.scale


def halves(x):
    return ops.concatenate(ops.split(x, 2, axis=-1), axis=-1)


CASES = {
    "weights": (Scale(name="scale"), ["first"], "scale: it computes with weights of its own"),
    "function": (halves, ["first"], "there is no rule to make Split smaller"),
}


def widths_of(model):
    return {x.name: x.kernel.shape[-1] for x in model.layers if hasattr(x, "kernel")}


@pytest.mark.parametrize("case", CASES)
def test_groups_that_compaction_leaves_are_warned_of_once(case):
    between, names, reason = CASES[case]
    model = network(between)
    sparse = tfl.sparsify(model, pattern="channel")
    with pytest.warns(UserWarning, match=f"the budget counts as removed.*{reason}") as warned:
        tfl.prune(sparse, budget={"parameters": 0.5})
    [message] = [str(w.message) for w in warned if "counts as removed" in str(w.message)]
    assert [name for name in ("first", "third", "free") if f"'{name}'" in message] == names
    widths = {
        layer.name: layer.kernel.shape[-1] for layer in model.layers if hasattr(layer, "kernel")
    }
    small, report = tfl.compact(sparse)
    assert [name for name in report.groups if not sparse.kept_channels()[name].all()] == names
    assert reason in report.groups["first"]
    left = {
        layer.name: layer.kernel.shape[-1] for layer in small.layers if hasattr(layer, "kernel")
    }
    assert all(left[name] == widths[name] for name in names)
    assert left["free"] < widths["free"]


def test_groups_that_compaction_removes_are_not_warned_of(make_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tfl.prune(tfl.sparsify(make_model("residual"), pattern="channel"), budget={"flops": 0.5})
