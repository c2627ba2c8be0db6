import pytest

from tf_lottery.sparsity import levels

LENET = {"h1/kernel": 235_200, "h2/kernel": 30_000, "output/kernel": 1_000}


def test_lenet_densities_are_those_of_the_paper(published_densities):
    rate = {"output": 0.1, ".": 0.2}
    dense = {path: (1.0, size) for path, size in LENET.items()}
    found = []
    for level in range(16):
        sparsities = levels.level_sparsity(rate, level, dense, "layer")
        kept = sum(size - round(sparsities[path] * size) for path, size in LENET.items())
        found.append(100 * kept / sum(LENET.values()))
    assert found == pytest.approx(published_densities, abs=0.06)


def test_global_sparsity_starts_from_the_density_the_model_has():
    densities = {"a": (0.5, 100), "b": (1.0, 100)}
    assert levels.level_sparsity(0.2, 2, densities, "global") == pytest.approx(1 - 0.75 * 0.64)


def test_first_expression_found_counts():
    assert levels.rates_by_path({"out": 0.1, ".": 0.2}, ["a/kernel", "out/kernel"]) == {
        "a/kernel": 0.2,
        "out/kernel": 0.1,
    }


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"output": 0.1}, "none fits 'h1/kernel'"),
        ({"ouput": 0.1, ".": 0.2}, r"{'ouput': \['output/kernel'\]}, of no use"),
    ],
)
def test_expressions_that_do_not_fit_are_named(rate, message):
    with pytest.raises(ValueError, match=message):
        levels.rates_by_path(rate, list(LENET))


@pytest.mark.parametrize(
    ("rate", "scope", "message"),
    [
        (0, "global", "above 0"),
        (1.0, "global", "in \\[0, 1\\)"),
        ({".": 0.2}, "global", "one number"),
        ({}, "layer", "above 0"),
        ({"a": 1.5}, "layer", "in \\[0, 1\\)"),
    ],
)
def test_wrong_rates_are_refused(rate, scope, message):
    with pytest.raises(ValueError, match=f"`rate` must be .*{message}.*Received"):
        levels.check_rate(rate, scope)
