"""Tests of the `repr` of callbacks and of their keyword-only arguments."""

import inspect

import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import callbacks
from tf_lottery.sparsity import Polynomial

ALL = [value for _, value in inspect.getmembers(callbacks, inspect.isclass)]


def test_repr_shows_what_differs_from_the_defaults(make_model):
    schedule = Polynomial(0.9, end_step=100)
    sparse = tfl.sparsify(make_model())
    for callback, expected in [
        (callbacks.RigL(), "RigL()"),
        (callbacks.RigL(100, 0.2, seed=0), "RigL(drop_fraction=0.2, seed=0)"),
        (callbacks.SET(end_step=7, pattern="2:4"), "SET(end_step=7, pattern='2:4')"),
        (callbacks.GhostSkipAnnealing(4), "GhostSkipAnnealing(end_step=4)"),
        (
            callbacks.GradualMagnitudePruning(schedule, scores=tfl.sparsity.scores.magnitude),
            f"GradualMagnitudePruning(schedule={schedule!r}, scores=magnitude)",
        ),
        (
            callbacks.EarlyStopIteration((np.ones(3), np.ones(3))),
            "EarlyStopIteration(validation_data=<tuple>)",
        ),
        (
            callbacks.SparsityLogger(sparse_model=sparse),
            "SparsityLogger(sparse_model=<SparseModel>)",
        ),
    ]:
        assert repr(callback) == expected


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_at_most_two_arguments_are_positional(kind):
    parameters = inspect.signature(kind).parameters.values()
    positional = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 2
    assert all(p.annotation is not p.empty for p in parameters if p.kind != p.VAR_KEYWORD)


def test_repr_of_a_ticket(make_model):
    ticket = tfl.Ticket.from_model(tfl.sparsify(make_model(), 0.75), level=3)
    assert repr(ticket) == "Ticket(density=0.25, kernels=2, level=3)"
