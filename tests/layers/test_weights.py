import pytest

from tf_lottery.layers.weights import unique_paths


@pytest.mark.backend
def test_repeated_paths_become_unique():
    class Variable:
        path = "a/kernel"

    assert unique_paths([Variable(), Variable(), Variable()]) == [
        "a/kernel",
        "a/kernel#2",
        "a/kernel#3",
    ]
