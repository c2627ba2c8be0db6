"""Tickets with literal weights."""

import keras
import numpy as np
import pytest

import tf_lottery as tfl


@pytest.fixture
def ticket():
    """A ticket of two small kernels with literal masks and weights; only a bias is 0."""
    return tfl.Ticket(
        {
            "a/kernel": np.array([[1, 0, 0], [0, 1, 1]], bool),
            "b/kernel": np.array([[1, 0], [0, 0], [0, 0]], bool),
        },
        {
            "a/kernel": np.array([[1.0, -2.0, 3.0], [4.0, -5.0, 6.0]], "float32"),
            "a/bias": np.array([0.5, 0.0, -0.5], "float32"),
            "b/kernel": np.array([[-7.0, 8.0], [9.0, -10.0], [11.0, 12.0]], "float32"),
        },
        level=3,
        provenance={"step": 0},
    )


@pytest.fixture
def masked_ticket(ticket):
    """The same ticket with zeros for pruned weights."""
    weights = {
        path: weight * ticket.masks.get(path, True) for path, weight in ticket.weights.items()
    }
    return tfl.Ticket(ticket.masks, weights)


@pytest.fixture
def model_ticket(make_model):
    """Returns a function that makes a pruned ticket with unmasked weights for a kind of model."""

    def make(kind="dense", sparsity=0.75, **kwargs):
        sparse = tfl.sparsify(make_model(kind), **kwargs)
        start = tfl.Snapshot(sparse)
        tfl.prune(sparse, sparsity, scope="layer")
        return tfl.Ticket.from_model(sparse, start.weights)

    return make


@pytest.fixture
def check_training(make_model, make_data, compile_model):
    """Returns a function that applies a ticket, trains one epoch and checks its zeros."""

    def check(ticket):
        sparse = compile_model(tfl.sparsify(make_model()))
        assert ticket.apply(sparse).unmatched == {}
        before = sparse.get_kernels()
        sparse.fit(*make_data(), epochs=1, batch_size=8, verbose=0)
        pairs = zip(ticket.masks.values(), sparse.get_masks().values(), strict=True)
        assert all(np.array_equal(mask, found) for mask, found in pairs)
        for variable, mask in zip(sparse.kernels.values(), ticket.masks.values(), strict=True):
            assert not keras.ops.convert_to_numpy(variable)[~mask].any()
        for path, kernel in sparse.get_kernels().items():
            assert (kernel != before[path]).any()

    return check
