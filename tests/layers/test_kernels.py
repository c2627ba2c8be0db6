import keras
import pytest
from keras import layers

from tf_lottery.layers import find_kernels, matrix_shapes


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
    selection = find_kernels(make_model("recurrent_deep"))
    found = [path.split("/")[-1] for path in names(selection.kernels)]
    assert found == ["kernel", "recurrent_kernel"] * 3 + ["kernel"]
    assert list(selection.skipped.values()) == [
        "the table of an embedding: pruned only if `include` asks for it"
    ]


def test_default_of_attention_leaves_its_two_dimensional_biases(make_model):
    selection = find_kernels(make_model("attention"))
    assert [len(kernel.shape) for kernel in selection.kernels] == [3, 3, 3, 3, 2]
    assert selection.skipped == {}


def test_state_of_layers_is_neither_pruned_nor_listed():
    normalized = layers.SpectralNormalization(layers.Conv2D(2, 3, name="inside"))
    model = keras.Sequential([keras.Input((4, 4, 3)), normalized])
    selection = find_kernels(model)
    assert [name.split("/")[-2:] for name in names(selection.kernels)] == [["inside", "kernel"]]
    assert selection.skipped == {}


def test_include_replaces_the_default(make_model):
    selection = find_kernels(make_model("recurrent"), include="embed")
    assert [kernel.path.split("/")[-1] for kernel in selection.kernels] == ["embeddings"]
    assert set(selection.skipped.values()) == {"not selected by `include`"}


def test_include_takes_classes_and_callables_and_lists(make_model):
    model = make_model("nested")
    depthwise = find_kernels(model, include=keras.layers.DepthwiseConv2D)
    assert len(depthwise.kernels) == 1
    wide = find_kernels(
        model, include=[lambda v, layer: v.shape[-1] == 3, r"/conv2d(_\d+)?/kernel"]
    )
    assert len(wide.kernels) >= 2


def test_expressions_never_select_biases_but_callables_can(make_model):
    model = make_model("dense")
    assert len(find_kernels(model, include="hidden").kernels) == 1
    assert len(find_kernels(model, include=lambda variable, layer: True).kernels) == 4


def test_exclude_wins(make_model):
    selection = find_kernels(make_model("dense"), include=".", exclude="output")
    assert [path.split("/")[-2] for path in names(selection.kernels)] == ["hidden"]
    assert list(selection.skipped.values()) == ["selected by `exclude`"]


def test_frozen_kernels_are_pruned_only_if_asked_for(make_model):
    model = make_model("dense")
    model.layers[0].trainable = False
    selection = find_kernels(model)
    assert [path.split("/")[-2] for path in names(selection.kernels)] == ["output"]
    assert list(selection.skipped.values()) == [
        "frozen, so not trained: pruned only if `include` asks for it"
    ]
    for include in (".", layers.Dense, lambda variable, layer: len(variable.shape) == 2):
        assert len(find_kernels(model, include=include).kernels) == 2
    assert len(find_kernels(model, frozen=True).kernels) == 2


def test_classes_never_select_what_is_not_trained():
    class Whitened(layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.statistic = self.add_weight(shape=(3, 3), name="statistic", trainable=False)

    model = keras.Sequential([keras.Input((3,)), Whitened(3)])
    for frozen in (False, True):
        model.layers[0].trainable = not frozen
        found = find_kernels(model, include=Whitened).kernels
        assert [variable.name for variable in found] == ["kernel"]
        found = find_kernels(model, exclude=Whitened, frozen=True)
        assert found.kernels == []
        assert list(found.skipped.values()) == ["selected by `exclude`"]
    assert len(find_kernels(model, include="statistic").kernels) == 1


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("ouput", r"'ouput', which fits none; the nearest are \['.*output/kernel'\]"),
        ("bias", r"'bias', which fits none; the weights are \['.*output/kernel'\]"),
        (["hidden", "zzz"], "'zzz', which fits none; the weights are .*hidden"),
        (layers.Embedding, r"Embedding'>, which fits none; the layers are \['Dense'\]"),
        (lambda variable, layer: False, "fits none; the weights are .*hidden"),
    ],
)
def test_rules_that_fit_nothing_are_refused(argument, rule, message, make_model):
    with pytest.raises(ValueError, match=f"`{argument}` must have rules that fit.*{message}"):
        find_kernels(make_model("dense"), **{argument: rule})


def test_kernels_without_weights_are_skipped():
    model = keras.Sequential([keras.Input((0,)), layers.Dense(3), layers.Dense(2)])
    selection = find_kernels(model, include="kernel")
    assert [tuple(kernel.shape) for kernel in selection.kernels] == [(3, 2)]
    assert list(selection.skipped.values()) == ["empty: its layer has no inputs or no outputs"]


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


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize("rule", [3, "hidden(", [None], int])
def test_wrong_rules_are_refused(argument, rule, make_model):
    with pytest.raises(ValueError, match=f"`{argument}` must .*Received"):
        find_kernels(make_model("dense"), **{argument: rule})


@pytest.mark.parametrize(
    ("layer", "input_shape", "expected"),
    [
        (layers.Dense(5), (None, 6), (6, 5)),
        (layers.Conv2D(5, 3), (None, 8, 8, 2), (18, 5)),
        (layers.Conv2D(6, 3, groups=2), (None, 8, 8, 4), (18, 6)),
        (layers.Conv2DTranspose(5, 3), (None, 8, 8, 2), None),
        (layers.Conv1DTranspose(5, 3), (None, 8, 2), None),
        (layers.DepthwiseConv2D(3), (None, 8, 8, 2), None),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (None, 7, 6), (6, 6)),
        (layers.EinsumDense("abcd,cde->abe", (None, 8)), (None, 7, 2, 3), (6, 8)),
        (layers.EinsumDense("...x,xy->...y", 5), (None, 7, 6), (6, 5)),
        (layers.EinsumDense("abc,dc->abd", (None, 4)), (None, 7, 6), None),
        (layers.EinsumDense("abc,bcd->abd", (7, 4)), (None, 7, 6), None),
        (layers.EinsumDense("abc,cbd->abd", (7, 4)), (None, 7, 6), (6, 28)),
    ],
)
def test_matrices_have_inputs_first(layer, input_shape, expected):
    layer.build(input_shape)
    assert matrix_shapes(layer, [layer.kernel]) == [expected]


@pytest.mark.backend
def test_matrices_of_attention(make_model):
    model = make_model("attention")
    kernels = find_kernels(model).kernels
    # Query, key and value (6, 2, 3), the output (2, 3, 6), then a dense layer.
    assert matrix_shapes(model, kernels) == [(6, 6)] * 4 + [(24, 3)]


def test_vectors_are_no_matrices(make_model):
    model = make_model("dense")
    biases = [weight for weight in model.weights if weight.name == "bias"]
    assert matrix_shapes(model, biases) == [None, None]


def test_kernels_that_a_pattern_does_not_divide_are_skipped(make_model):
    selection = find_kernels(make_model("nested"), include="kernel", pattern="4x1")
    found = {path.split("/", 1)[1]: reason for path, reason in selection.skipped.items()}
    assert len(selection.kernels) == 2
    assert list(found.values()) == [
        "its 18 inputs and 4 outputs are not divided by the pattern 4x1",
        "its axes are not inputs followed by outputs, which the pattern 4x1 needs",
        "its axes are not inputs followed by outputs, which the pattern 4x1 needs",
    ]
    assert len(find_kernels(make_model("nested"), include="kernel").kernels) == 5


def test_reasons_of_the_rules_come_before_those_of_the_pattern(make_model):
    skipped = find_kernels(make_model("dense"), exclude="hidden", pattern="4x1").skipped
    assert list(skipped.values()) == ["selected by `exclude`"]
