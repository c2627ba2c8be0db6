import json

import keras
import pytest

import tf_lottery as tfl
from tf_lottery.analysis.report import KernelRow, Summary


def test_counts_per_kernel_and_in_all(make_model):
    summary = tfl.summary(tfl.sparsify(make_model(), sparsity=0.75))
    assert [(row.shape, row.nonzeros) for row in summary.rows] == [((6, 8), 12), ((8, 3), 6)]
    assert (summary.size, summary.nonzeros, summary.sparsity, summary.density) == (
        72,
        18,
        0.75,
        0.25,
    )
    assert summary.num_parameters == 72 + 8 + 3


def test_skipped_weights_come_with_the_reason(make_model):
    summary = tfl.summary(tfl.sparsify(make_model("recurrent_deep"), exclude="lstm"))
    reasons = sorted(reason[:12] for reason in summary.skipped.values())
    assert reasons == ["selected by ", "selected by ", "the table of"]
    assert all(path in str(summary).replace("\n", "") for path in ("embeddings", "kernel"))


@pytest.mark.parametrize("gate", [None, tfl.SoftGate()])
def test_masks_of_a_sparse_model_inside_another_count(gate, make_model):
    inside = tfl.sparsify(make_model(), sparsity=0.0 if gate else 0.75, gate=gate)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inside(inputs)))
    for kernel in inside.wrapper.kernels:
        # Momentum moves what pruned weights store.
        kernel.assign(keras.ops.ones(kernel.shape))
    summary = tfl.summary(model)
    found = {row.shape: row.nonzeros for row in summary.rows}
    assert found == {(6, 8): 0 if gate else 12, (8, 3): 0 if gate else 6, (3, 2): 6}
    assert summary.skipped == {}
    assert summary.num_parameters == summary.flops.num_parameters == 72 + 8 + 3 + 6 + 2


def test_dict_is_fit_for_json(make_model):
    summary = tfl.summary(tfl.sparsify(make_model(), sparsity=0.5))
    found = json.loads(json.dumps(summary.to_dict()))
    assert found["sparsity"] == 0.5
    assert [kernel["sparsity"] for kernel in found["kernels"]] == [0.5, 0.5]
    assert found["kernels"][0]["shape"] == [6, 8]
    assert found["num_bytes"] == {"dense": 332, "bitmask": 4 * 47 + 9, "csr": 4 * 47 + 4 * 49}
    assert found["flops"] == {
        "convention": "mac2",
        "sparse": 72,
        "dense": 144,
        "ratio": 0.5,
        "coverage": 1.0,
        "not_counted": {},
    }


def test_plain_model_is_counted_by_its_zeros(make_model):
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    assert tfl.summary(sparse.model).sparsity == 0.5


def test_table_shows_every_kernel(make_model):
    text = str(tfl.summary(tfl.sparsify(make_model(), sparsity=0.75)))
    for part in ("hidden/kernel", "output/kernel", "6 x 8", "75.00%", "all kernels"):
        assert part in text


def test_names_with_brackets_are_shown_as_they_are():
    rows = [KernelRow("[/x]/[bold]kernel", (2, 2), 4, 2)]
    text = str(Summary("[red]net[/]", rows, {"[/y]": "[z]"}, 4, no_flops="[/a]"))
    assert all(name in text for name in ("[/x]/[bold]kernel", "[red]net[/]", "[/a]"))


def test_cost_stands_below_the_table(make_model):
    text = str(tfl.summary(tfl.sparsify(make_model(), sparsity=0.75)))
    assert "Bytes: dense 332, bitmask 125, CSR 240" in text
    assert "FLOPs of inference: 36 of 144 dense, 25.00%" in text


def test_model_of_open_shape_is_summarized_without_flops():
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(3)])
    summary = tfl.summary(model)
    assert (summary.size, summary.flops, summary.to_dict()["flops"]) == (12, None, None)
    assert "FLOPs not counted: Argument `input_shape` must" in str(summary)
    assert tfl.summary(model, input_shape=(7, 4)).flops.dense == 168


def test_model_that_cannot_be_traced_is_summarized_without_flops(make_model):
    model = make_model("subclassed")

    def call(inputs, training=None):
        raise RuntimeError("only on Sundays")

    model.call = call
    summary = tfl.summary(model)
    assert summary.size == 88
    assert "only on Sundays" in summary.no_flops


def test_layers_without_flops_are_listed(make_model):
    class Scale(keras.layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")

        def call(self, inputs):
            return inputs * self.scale

    text = str(tfl.summary(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), Scale()])))
    assert "no rule for layers of type Scale" in text
    assert "These FLOPs cover only 80.0% of the weights" in text


@pytest.mark.parametrize("model", [None, "model.keras"])
def test_something_else_is_refused(model):
    with pytest.raises(ValueError, match="`model` must be a built Keras model.*Received"):
        tfl.summary(model)


def test_frozen_kernels_are_listed_or_counted(make_model):
    model = make_model()
    model.layers[0].trainable = False
    summary = tfl.summary(tfl.sparsify(model, 0.5))
    assert [row.path.split("/")[-2] for row in summary.rows] == ["output"]
    assert "hidden/kernel: frozen, so not trained" in str(summary)
    assert len(tfl.summary(model).rows) == 2
