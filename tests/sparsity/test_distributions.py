import math

import numpy as np
import pytest

from tf_lottery.sparsity import distributions
from tf_lottery.sparsity.distributions import erdos_renyi, erdos_renyi_kernel, uniform

TOY = {"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)}
LENET = {"h1": (784, 300), "h2": (300, 100), "output": (100, 10)}


def resnet_50():
    """Returns the shapes of the 54 kernels of ResNet-50, with a shortcut in every stage."""
    shapes, inputs = {"conv1": (7, 7, 3, 64)}, 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        shapes[f"{stage}/shortcut"] = (1, 1, inputs, 4 * width)
        for block in range(blocks):
            shapes[f"{stage}/{block}/reduce"] = (1, 1, inputs, width)
            shapes[f"{stage}/{block}/conv"] = (3, 3, width, width)
            shapes[f"{stage}/{block}/expand"] = (1, 1, width, 4 * width)
            inputs = 4 * width
    return {**shapes, "fc": (2048, 1000)}


def epsilon(shape, sparsity):
    return (1 - sparsity) * math.prod(shape) / sum(shape)


@pytest.mark.parametrize(
    ("function", "sparsity", "expected"),
    [
        (erdos_renyi_kernel, 0.5, [0, 0.309524, 0.654762]),
        (erdos_renyi, 0.5, [0.207143, 0.471429, 0.559524]),
        (erdos_renyi_kernel, 0.8, [0.555556, 0.703704, 0.851852]),
        (
            lambda shapes, s: erdos_renyi_kernel(shapes, s, power_scale=2),
            0.5,
            [0, 1 / 30, 0.758333],
        ),
        (lambda shapes, s: erdos_renyi_kernel(shapes, s, power_scale=0), 0.5, [0.5, 0.5, 0.5]),
    ],
)
def test_toy_values_of_the_official_code(function, sparsity, expected):
    assert list(function(TOY, sparsity).values()) == pytest.approx(expected, abs=1e-6)


def test_layers_saturate_one_after_another():
    shapes = {"a": (2, 4), "c": (3, 6, 7), "d": (7, 4)}
    found = erdos_renyi_kernel(shapes, 0.5)
    assert found == pytest.approx({"a": 0, "c": 0.642857, "d": 0}, abs=1e-6)
    del shapes["d"]
    assert erdos_renyi_kernel(shapes, 0.5) == pytest.approx({"a": 0, "c": 0.531746}, abs=1e-6)


@pytest.mark.parametrize(
    ("sparsity", "expected", "num_dense"),
    [(0.8, 99.561667, 8), (0.9, 48.786611, 1), (0.95, 24.372126, 0), (0.965, 17.060683, 0)],
)
def test_epsilon_of_resnet_50(sparsity, expected, num_dense):
    shapes = resnet_50()
    assert (len(shapes), sum(map(math.prod, shapes.values()))) == (54, 25_502_912)
    found = erdos_renyi_kernel(shapes, sparsity)
    sparse = {path: s for path, s in found.items() if s > 0}
    assert len(shapes) - len(sparse) == num_dense
    for path, value in sparse.items():
        assert epsilon(shapes[path], value) == pytest.approx(expected, abs=1e-6)


def test_sparsities_of_resnet_50():
    found = [erdos_renyi_kernel(resnet_50(), sparsity) for sparsity in (0.8, 0.9)]
    dense = {path for path, value in found[0].items() if value == 0}
    assert dense == {"1/shortcut", "2/0/reduce"} | {
        f"1/{block}/{kind}" for block in range(3) for kind in ("reduce", "expand")
    }
    assert [path for path, value in found[1].items() if value == 0] == ["1/0/reduce"]
    expected = {
        "conv1": (0.1428, 0.5800),
        "1/0/conv": (0.6381, 0.8227),
        "2/0/conv": (0.8231, 0.9133),
        "3/0/conv": (0.9126, 0.9572),
        "4/0/conv": (0.9565, 0.9787),
        "4/1/reduce": (0.7567, 0.8808),
        "4/1/expand": (0.7567, 0.8808),
        "4/shortcut": (0.8541, 0.9285),
        "fc": (0.8518, 0.9274),
    }
    for path, values in expected.items():
        assert [f[path] for f in found] == pytest.approx(values, abs=5e-5)


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [(0.9, [0.92043, 0.76981, 0]), (0.98, [0.98461, 0.95547, 0.6326])],
)
def test_sparsities_of_lenet(sparsity, expected):
    assert list(erdos_renyi_kernel(LENET, sparsity).values()) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("function", [erdos_renyi, erdos_renyi_kernel])
def test_agrees_with_filling_up_by_bisection(function):
    rng = np.random.default_rng(0)
    for _ in range(200):
        ranks = rng.integers(2, 5, size=rng.integers(1, 8))
        shapes = {str(i): tuple(rng.integers(1, 12, size=r).tolist()) for i, r in enumerate(ranks)}
        sparsity = rng.random()
        axes = slice(-2, None) if function is erdos_renyi else slice(None)
        raw = np.array([sum(s[axes]) / math.prod(s[axes]) for s in shapes.values()])
        sizes = np.array([math.prod(shape) for shape in shapes.values()])
        budget = np.sum(sizes - np.floor(sparsity * sizes))
        low, high = 0.0, 1.0 / raw.min()
        for _ in range(100):
            middle = (low + high) / 2
            spent = np.sum(np.minimum(1, middle * raw) * sizes)
            low, high = (middle, high) if spent < budget else (low, middle)
        found = np.array(list(function(shapes, sparsity).values()))
        np.testing.assert_allclose(found, 1 - np.minimum(1, high * raw), atol=1e-9)
        assert np.all((found >= 0) & (found < 1))


def test_no_sparsity_is_dense():
    for function in (uniform, erdos_renyi, erdos_renyi_kernel):
        assert list(function(TOY, 0.0).values()) == pytest.approx([0, 0, 0], abs=1e-12)


def test_uniform_can_keep_the_first_layer_dense():
    assert uniform(LENET, 0.9) == {"h1": 0.9, "h2": 0.9, "output": 0.9}
    assert uniform(LENET, 0.9, dense_first=True) == {"h1": 0.0, "h2": 0.9, "output": 0.9}
    assert uniform(LENET, 0.9, True, custom={"h1": 0.5})["h1"] == 0.5


@pytest.mark.parametrize("function", [erdos_renyi, erdos_renyi_kernel])
def test_custom_layers_are_outside_the_budget(function):
    found = function({**LENET, "extra": (50, 50)}, 0.9, custom={"extra": 0.25})
    assert found.pop("extra") == 0.25
    assert found == function(LENET, 0.9)
    assert function(LENET, 0.9, custom=dict.fromkeys(LENET, 0.3)) == dict.fromkeys(LENET, 0.3)


def test_uniform_leaves_custom_layers_alone():
    assert uniform(TOY, 0.5, custom={"b": 0.0}) == {"a": 0.5, "b": 0.0, "c": 0.5}


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("uniform", uniform),
        ("er", erdos_renyi),
        ("erdos_renyi", erdos_renyi),
        ("erk", erdos_renyi_kernel),
        ("erdos_renyi_kernel", erdos_renyi_kernel),
        (max, max),
    ],
)
def test_names_and_functions(name, function):
    assert distributions.get(name) is function


@pytest.mark.parametrize("identifier", ["kernel", None, 3, {"a": 0.5}])
def test_unknown_distributions_are_refused(identifier):
    with pytest.raises(ValueError, match="`distribution` must be .*Received"):
        distributions.get(identifier)


@pytest.mark.parametrize("function", [uniform, erdos_renyi, erdos_renyi_kernel])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shapes": {}}, "`shapes` must hold at least one"),
        ({"sparsity": 1.0}, "`sparsity` must be in"),
        ({"custom": {"d": 0.5}}, "`custom` must have paths of `shapes`"),
        ({"custom": {"a": 1.5}}, r"`custom\['a'\]` must be in"),
    ],
)
def test_wrong_arguments_are_named(function, arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        function(**{"shapes": TOY, "sparsity": 0.5, **arguments})


@pytest.mark.parametrize("function", [erdos_renyi, erdos_renyi_kernel])
def test_vectors_are_refused_where_they_have_no_density(function):
    with pytest.raises(ValueError, match=r"`shapes\['bias'\]` must have at least 2 axes.*Received"):
        function({**TOY, "bias": (4,)}, 0.5)
    assert uniform({"bias": (4,)}, 0.5) == {"bias": 0.5}


@pytest.mark.parametrize("power_scale", [-1, math.nan, True, "1"])
def test_wrong_power_scale_is_named(power_scale):
    with pytest.raises(ValueError, match="`power_scale` must be .*Received"):
        erdos_renyi_kernel(TOY, 0.5, power_scale=power_scale)


def test_a_path_comes_before_expressions_and_the_rest_has_the_default():
    paths = ["a/kernel", "b/a/kernel", "c/kernel"]
    found = distributions.values_by_path("rate", {"a/": 0.1, "b/a/kernel": 0.2}, paths, default=0.3)
    assert list(found.values()) == [0.1, 0.2, 0.3]


def test_broken_expressions_are_refused():
    with pytest.raises(ValueError, match=r"`rate` must have valid regular expressions.*'\('"):
        distributions.values_by_path("rate", {"(": 0.1}, ["a"])
    with pytest.raises(ValueError, match="must have valid regular expressions.*Received: 3 .first"):
        distributions.values_by_path("rate", {3: 0.1}, ["a"])


def test_spread_gives_each_kernel_its_sparsity():
    shapes = {"hidden": (10, 10), "output": (10, 2)}
    assert distributions.spread("uniform", shapes, 0.5) == {"hidden": 0.5, "output": 0.5}
    assert distributions.spread({"out": 0.25}, shapes, 0.5) == {"hidden": 0.5, "output": 0.25}
    with pytest.raises(ValueError, match=r"must return a sparsity for every.*Received: \['hidden"):
        distributions.spread(lambda shapes, sparsity: {"hidden": sparsity}, shapes, 0.5)
