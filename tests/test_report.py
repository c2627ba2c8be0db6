import json

import pytest

import tf_lottery as tfl


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
    summary = tfl.summary(tfl.sparsify(make_model("recurrent"), exclude="lstm"))
    reasons = sorted(reason[:12] for reason in summary.skipped.values())
    assert reasons == ["an embedding", "selected by ", "selected by "]
    assert all(path in str(summary).replace("\n", "") for path in ("embeddings", "kernel"))


def test_dict_is_fit_for_json(make_model):
    summary = tfl.summary(tfl.sparsify(make_model(), sparsity=0.5))
    found = json.loads(json.dumps(summary.to_dict()))
    assert found["sparsity"] == 0.5
    assert [kernel["sparsity"] for kernel in found["kernels"]] == [0.5, 0.5]
    assert found["kernels"][0]["shape"] == [6, 8]


def test_plain_model_is_counted_by_its_zeros(make_model):
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    assert tfl.summary(sparse.model).sparsity == 0.5


def test_table_shows_every_kernel(make_model):
    text = str(tfl.summary(tfl.sparsify(make_model(), sparsity=0.75)))
    for part in ("hidden/kernel", "output/kernel", "6 x 8", "75.00%", "all kernels"):
        assert part in text


@pytest.mark.parametrize("model", [None, "model.keras"])
def test_something_else_is_refused(model):
    with pytest.raises(ValueError, match="`model` must be a built Keras model.*Received"):
        tfl.summary(model)
