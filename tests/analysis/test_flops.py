import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.analysis._flops import NOT_CALLED, READ_ELSEWHERE
from tf_lottery.analysis.flops_conventions import CONVENTIONS, kernel_flops


class Scale(layers.Layer):
    """A layer of a kind without a rule."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")

    def call(self, inputs):
        return inputs * self.scale


class Cell(layers.Layer):
    """A recurrent cell without a rule, which contains a layer with one."""

    state_size = output_size = 3

    def build(self, input_shape):
        self.dense = layers.Dense(3, name="dense")
        self.dense.build(input_shape)

    def call(self, inputs, states):
        y = self.dense(inputs) + states[0]
        return y, [y]


class Unused(keras.Model):
    """A model that does not call one of its layers."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = layers.Dense(3), layers.Dense(2, name="unused")

    def build(self, input_shape):
        self.used.build(input_shape)
        self.unused.build(input_shape)

    def call(self, inputs):
        return self.used(inputs)


class Tied(layers.Layer):
    """Looks tokens up, then multiplies directly with the transposed embedding."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(7, 4, name="embedding")

    def call(self, tokens):
        x = self.embedding(tokens)
        return keras.ops.matmul(x, keras.ops.transpose(self.embedding.embeddings))


class Experts(layers.Layer):
    """A layer with two experts, whose kernel has an axis for the experts."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(2, input_shape[-1], 3), name="kernel")

    def call(self, inputs):
        return keras.ops.sum(keras.ops.einsum("bi,eio->beo", inputs, self.kernel), axis=1)


def totals(model, **kwargs):
    report = tfl.flops(model, **kwargs)
    return report.dense, report.sparse


def test_conventions():
    found = [kernel_flops(name, (4, 3), 6, uses=10) for name in CONVENTIONS]
    assert found == [60, 120, (2 * 2 + 1) * 3 * 10]


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("mac", (72, 18)),
        ("mac2", (144, 36)),
        ("micronet", (144 + 8 + 3, 36 + 8 + 3)),
    ],
)
def test_masks_are_counted(make_model, convention, expected):
    sparse = tfl.sparsify(make_model(), sparsity=0.75)
    assert totals(sparse, convention=convention) == expected


@pytest.mark.parametrize(
    ("kind", "macs"),
    [
        ("dense", 6 * 8 + 8 * 3),
        # Two calls of a 3x3 convolution at 6x6 positions, separable at 4x4, depthwise at 2x2.
        ("nested", 2 * 36 * 72 + 16 * (72 + 32) + 4 * 36 + 16 * 3),
        ("recurrent_deep", 5 * (4 * 20 + 5 * 20) + 2 * 5 * (5 * 12 + 4 * 12) + 8 * 3),
        # Queries, keys, values and outputs of 2 heads of size 3, over 4 positions.
        ("attention", 4 * 4 * 6 * 6 + 24 * 3),
        ("subclassed", 8 * 8 + 8 * 3),
        ("dict_inputs", 4 * 4 + 9 * 3),
    ],
)
def test_models_of_every_kind(make_model, kind, macs):
    report = tfl.flops(tfl.sparsify(make_model(kind)), "mac")
    assert (report.dense, report.sparse, report.not_counted) == (macs, macs, {})


def test_plain_model_is_counted_by_its_zeros(make_model):
    sparse = tfl.sparsify(make_model("nested"), sparsity=0.5)
    expected = totals(sparse)
    assert expected[1] < expected[0]
    assert totals(tfl.strip(sparse)) == expected


def test_weights_without_a_mask_are_dense_though_they_are_zero(make_model):
    model = make_model()
    model.layers[1].kernel.assign(np.zeros((8, 3)))
    assert totals(model, convention="mac") == (72, 48)
    assert totals(tfl.sparsify(model, exclude="output"), convention="mac") == (72, 72)


def test_masks_inside_a_model_are_counted():
    masked = tfl.layers.Masked(layers.Dense(4))
    model = keras.Sequential([keras.Input((3,)), masked, layers.Dense(2)])
    masked.selection.masks[0].assign(np.eye(3, 4, dtype=bool))
    masked.add_part(tfl.layers.GrowthMemory(decay=0.9))
    report = tfl.flops(model, "mac")
    assert (report.dense, report.sparse, report.not_counted) == (12 + 8, 3 + 8, {})


def test_given_sparsities(make_model):
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    first, _ = sparse.kernels
    for model in (sparse, sparse.model):
        report = tfl.flops(model, "mac", sparsities={first: 0.9})
        assert report.sparse == pytest.approx(4.8 + 24)
        assert [row.sparsity for row in report.rows] == pytest.approx([0.9, 0.0])
        assert totals(model, sparsities={}) == (144, 144)


def test_batch_of_the_model_does_not_matter():
    model = keras.Sequential([keras.Input(batch_shape=(8, 5, 4)), layers.Dense(3)])
    assert totals(model, convention="mac") == (60, 60)


def test_input_shape_decides_over_the_models():
    model = keras.Sequential([keras.Input((None, 4)), layers.Dense(3)])
    assert totals(model, convention="mac", input_shape=(7, 4)) == (84, 84)


def test_mixed_precision():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="mixed_bfloat16")])
    assert totals(model, convention="mac") == (12, 12)


def not_counted(model):
    """Returns the reasons for weights that are not counted, by the last part of their paths."""
    reasons = tfl.flops(model).not_counted
    return {path.split("/")[-1]: reason for path, reason in reasons.items()}


def test_layer_of_an_unknown_kind():
    x = keras.Input((4,))
    model = keras.Model(x, layers.BatchNormalization()(Scale()(layers.Dense(3)(x))))
    assert not_counted(model) == {"scale": "no rule for layers of type Scale"}
    assert tfl.flops(model, "mac").dense == 12
    assert "Not counted:" in str(tfl.flops(model))


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantized_layers_are_counted_by_their_zeros(mode):
    dense = layers.Dense(3, use_bias=False)
    plain = keras.Sequential([keras.Input((4,)), dense])
    dense.kernel.assign(np.eye(4, 3))
    plain.quantize(mode)
    report = tfl.flops(plain, "mac")
    assert (report.dense, report.sparse) == (12, 3)
    assert not [path for path in report.not_counted if path.endswith("kernel")]


def test_packed_weights_are_not_counted():
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False)])
    plain.quantize("int4")
    report = tfl.flops(plain)
    assert report.rows == []
    assert set(report.not_counted.values()) == {"no rule for layers quantized to int4"}


def test_recurrent_cell_of_an_unknown_kind():
    model = keras.Sequential([keras.Input((5, 4)), layers.RNN(Cell()), layers.Dense(2)])
    reason = "no rule for recurrent cells of type Cell"
    assert not_counted(model) == {"kernel": reason, "bias": reason}
    assert tfl.flops(model, "mac").dense == 6


def test_layer_that_is_not_called():
    model = Unused()
    model.build((None, 4))
    assert not_counted(model) == {"kernel": NOT_CALLED, "bias": NOT_CALLED}
    assert tfl.flops(model, "mac").dense == 12


@pytest.mark.parametrize("return_sequences", [False, True])
def test_convolutional_recurrence(return_sequences):
    """3 steps, 4 x 2 positions, 4 gates of 5 channels, kernels of 3 x 2."""
    layer = layers.ConvLSTM2D(5, (3, 2), strides=(1, 2), return_sequences=return_sequences)
    sparse = tfl.sparsify(keras.Sequential([keras.Input((3, 6, 4, 2)), layer]), sparsity=0.5)
    macs = 3 * 4 * 2 * (3 * 2 * 2 * 20 + 3 * 2 * 5 * 20)
    assert totals(sparse, convention="mac") == (macs, macs // 2)
    assert tfl.flops(sparse).coverage == 1.0


@pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"), reason="Keras has no ReversibleEmbedding"
)
@pytest.mark.parametrize("tie_weights", [True, False])
def test_embedding_that_projects_back(tie_weights):
    """5 tokens, a vocabulary of 7 and 4 features; the lookup costs nothing."""
    embedding = layers.ReversibleEmbedding(7, 4, tie_weights=tie_weights)
    tokens = keras.Input((5,), dtype="int32")
    model = keras.Model(tokens, embedding(layers.Dense(4)(embedding(tokens)), reverse=True))
    report = tfl.flops(model, "mac")
    assert (report.dense, report.not_counted) == (5 * 4 * 4 + 5 * 4 * 7, {})
    costs = {row.path.split("/")[-1]: row.dense for row in report.rows}
    expected = {"embeddings": 140} if tie_weights else {"embeddings": 0, "reverse_embeddings": 140}
    assert costs == {"kernel": 80, **expected}


@pytest.mark.backend
def test_embedding_that_other_code_multiplies_with():
    model = keras.Sequential([keras.Input((5,), dtype="int32"), Tied(), layers.Dense(4)])
    report = tfl.flops(model, "mac")
    assert report.dense == 5 * 7 * 4
    assert not_counted(model) == {"embeddings": READ_ELSEWHERE}
    assert report.coverage == 28 / (28 + 28)
    assert "cover only 50.0% of the weights" in str(report)


def test_embedding_that_is_only_read():
    class Projection(layers.Layer):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(7, 4)
            self.embedding.build()

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.embedding.embeddings))

    model = keras.Sequential([keras.Input((4,)), Projection()])
    assert not_counted(model) == {"embeddings": READ_ELSEWHERE}
    assert tfl.flops(model).coverage == 0.0


@pytest.mark.backend
def test_mixture_of_experts():
    """The 2 x 4 x 3 weights of the experts are not counted, the 9 of the dense layer are."""
    model = keras.Sequential([keras.Input((4,)), Experts(), layers.Dense(3)])
    report = tfl.flops(tfl.sparsify(model, sparsity=0.5), "mac")
    assert report.dense == 9
    assert not_counted(model) == {"kernel": "no rule for layers of type Experts"}
    assert report.coverage == 9 / (9 + 24)
    assert report.to_dict()["coverage"] == report.coverage


def test_uses_elsewhere_are_found_inside_a_sparse_model():
    inner = keras.Sequential([keras.Input((5,), dtype="int32"), Tied(), layers.Dense(4)])
    sparse = tfl.sparsify(inner, sparsity=0.5)
    model = keras.Sequential([keras.Input((5,), dtype="int32"), sparse, layers.Dense(2)])
    report = tfl.flops(model, "mac")
    assert [(row.dense, row.sparse) for row in report.rows if row.dense] == [(140, 70), (40, 40)]
    assert list(not_counted(model).values()) == [READ_ELSEWHERE]


def test_state_of_layers_is_no_weight():
    dense = keras.layers.SpectralNormalization(keras.layers.Dense(4))
    report = tfl.flops(keras.Sequential([keras.Input((3,)), dense]))
    assert (report.coverage, report.not_counted) == (1.0, {})


def test_coverage_is_never_rounded_to_all():
    x = keras.Input((100,))
    model = keras.Model(x, Scale()(layers.Dense(100)(x)))
    assert tfl.flops(model).coverage == 10000 / 10100
    text = str(dataclasses.replace(tfl.flops(model), num_not_counted=1))
    assert "cover only 99.9% of the weights" in text


def test_micronet_assumes_same_padding():
    layer = layers.Conv2D(4, 3, strides=2, use_bias=False)
    model = keras.Sequential([keras.Input((9, 9, 2)), layer])
    assert totals(model, convention="mac")[0] == 4 * 4 * 72
    assert totals(model, convention="micronet")[0] == 5 * 5 * (2 * 72 + 4)


def test_bytes(make_model):
    sparse = tfl.sparsify(make_model(), sparsity=0.75)
    assert tfl.flops(sparse).num_bytes == {
        "dense": 4 * (72 + 11),
        "bitmask": 4 * (18 + 11) + 9,
        "csr": 4 * (18 + 11) + 4 * (18 + 9 + 4),
    }
    assert tfl.flops(sparse, "micronet").num_bytes["bitmask"] == 4 * (18 + 11) + 9


def test_training(make_model):
    report = tfl.flops(tfl.sparsify(make_model(), sparsity=0.75))
    assert report.training("dense") == 3 * 144
    assert report.training("rigl", frequency=9) == (9 * 3 * 36 + 2 * 36 + 144) / 10
    assert report.training("static", first_input_gradient=False) == 3 * 36 - 24
    schedule = tfl.sparsity.Constant(0.75, begin_step=3)
    kwargs = {"frequency": 1, "schedule": schedule, "total_steps": 5}
    assert report.training("pruning", **kwargs) == pytest.approx(3 * (144 + 36) / 2)


def test_dict_is_fit_for_json(make_model):
    found = json.loads(json.dumps(tfl.flops(tfl.sparsify(make_model(), sparsity=0.75)).to_dict()))
    assert (found["convention"], found["dense"], found["sparse"]) == ("mac2", 144, 36)
    assert (found["ratio"], found["num_parameters"]) == (0.25, 83)
    assert found["kernels"][0]["shape"] == [6, 8]
    assert found["kernels"][0]["sparsity"] == 0.75


def test_table_shows_every_kernel(make_model):
    text = str(tfl.flops(tfl.sparsify(make_model("dense"), sparsity=0.75), "mac"))
    for part in ("hidden/kernel", "output/kernel", "6 x 8", "75.00%", "72", "18", "mac", "CSR"):
        assert part in text


def test_unknown_convention_is_refused(make_model):
    with pytest.raises(ValueError, match="`convention` must be one of.*Received: .*'flops'"):
        tfl.flops(make_model(), convention="flops")


def test_wrong_sparsities_are_refused(make_model):
    model = make_model()
    path = model.layers[0].kernel.path
    with pytest.raises(ValueError, match="`sparsities` must have paths.*Received: 'other'"):
        tfl.flops(model, sparsities={"other": 0.5})
    with pytest.raises(ValueError, match=r"hidden/kernel'\]` must be in \[0, 1\]. Received: 1.5"):
        tfl.flops(model, sparsities={path: 1.5})


@pytest.mark.parametrize("model", [None, keras.Sequential([layers.Dense(2)])])
def test_something_else_is_refused(model):
    with pytest.raises(ValueError, match="`model` must be a built Keras model.*Received"):
        tfl.flops(model)
