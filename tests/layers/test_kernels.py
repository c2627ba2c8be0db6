import keras
import pytest

from tf_lottery.layers import find_kernels
from tf_lottery.layers.kernels import unique_paths


def names(variables):
    return [variable.path for variable in variables]


def test_default_of_convolutions(make_model):
    selection = find_kernels(make_model("nested"))
    found = [path.split("/")[-1] for path in names(selection.kernels)]
    assert found == ["kernel", "pointwise_kernel", "kernel"]
    assert sorted(path.split("/")[-1] for path in selection.skipped) == [
        "depthwise_kernel",
        "kernel",
    ]
    assert all("depthwise" in reason for reason in selection.skipped.values())


def test_default_of_recurrent_layers(make_model):
    selection = find_kernels(make_model("recurrent"))
    found = [path.split("/")[-1] for path in names(selection.kernels)]
    assert found == ["kernel", "recurrent_kernel"] * 3 + ["kernel"]
    assert list(selection.skipped.values()) == [
        "an embedding: looked up, not multiplied, pruned only if `include` asks for it"
    ]


def test_default_of_attention_leaves_its_two_dimensional_biases(make_model):
    selection = find_kernels(make_model("attention"))
    assert [len(kernel.shape) for kernel in selection.kernels] == [3, 3, 3, 3, 2]
    assert selection.skipped == {}


def test_include_replaces_the_default(make_model):
    selection = find_kernels(make_model("recurrent"), include="embed")
    assert [kernel.path.split("/")[-1] for kernel in selection.kernels] == ["embeddings"]
    assert set(selection.skipped.values()) == {"not selected by `include`"}


def test_include_takes_classes_and_callables_and_lists(make_model):
    model = make_model("nested")
    depthwise = find_kernels(model, include=keras.layers.DepthwiseConv2D)
    assert len(depthwise.kernels) == 1
    wide = find_kernels(model, include=[lambda v, layer: v.shape[-1] == 3, "conv2d/kernel"])
    assert len(wide.kernels) >= 2


def test_expressions_never_select_biases_but_callables_can(make_model):
    model = make_model("dense")
    assert len(find_kernels(model, include="hidden").kernels) == 1
    assert len(find_kernels(model, include=lambda variable, layer: True).kernels) == 4


def test_exclude_wins(make_model):
    selection = find_kernels(make_model("dense"), include=".", exclude="output")
    assert [path.split("/")[-2] for path in names(selection.kernels)] == ["hidden"]
    assert list(selection.skipped.values()) == ["selected by `exclude`"]


def test_frozen_kernels_count_as_kernels(make_model):
    model = make_model("dense")
    model.trainable = False
    assert len(find_kernels(model).kernels) == 2


def test_custom_layer_is_skipped_with_the_reason():
    class Bilinear(keras.layers.Layer):
        def build(self, shape):
            self.mixing = self.add_weight(shape=(4, 4), name="mixing")

        def call(self, x):
            return x @ self.mixing

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(Bilinear()(inputs)))
    selection = find_kernels(model)
    assert [reason for path, reason in selection.skipped.items() if "mixing" in path] == [
        "not the kernel of a known kind of layer, pruned only if `include` asks for it"
    ]
    assert len(find_kernels(model, include="mixing").kernels) == 1


def test_repeated_paths_become_unique():
    class Variable:
        path = "a/kernel"

    assert unique_paths([Variable(), Variable(), Variable()]) == [
        "a/kernel",
        "a/kernel#2",
        "a/kernel#3",
    ]


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize("rule", [3, "hidden(", [None], int])
def test_wrong_rules_are_refused(argument, rule, make_model):
    with pytest.raises(ValueError, match=f"`{argument}` must .*Received"):
        find_kernels(make_model("dense"), **{argument: rule})
