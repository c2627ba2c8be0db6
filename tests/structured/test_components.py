import numpy as np

from tf_lottery.structured.components import components


def test_components_of_random_graphs():
    rng = np.random.default_rng(0)
    for count in (1, 7, 60):
        for pairs in (0, count // 2, count):
            first, second = rng.integers(count, size=(2, pairs))
            reached = np.eye(count, dtype=bool)
            reached[first, second] = reached[second, first] = True
            for _ in range(count.bit_length()):
                reached = (reached.astype(int) @ reached) > 0
            np.testing.assert_array_equal(components(count, first, second), reached.argmax(axis=1))


def test_components_of_a_long_chain():
    order = np.random.default_rng(1).permutation(1000)
    assert not components(1000, order[1:], order[:-1]).any()
