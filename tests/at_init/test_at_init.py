"""Tests for all methods: masks are exact, and nothing else in the model changes."""

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery._keras import all_layers
from tf_lottery.sparsity import distributions

METHODS = ["snip", "grasp", "synflow", "random"]


def apply(method, model, data, sparsity=0.75, **kwargs):
    if method in ("snip", "grasp"):
        return getattr(tfl.at_init, method)(model, data, sparsity, **kwargs)
    if method == "synflow":
        kwargs["rounds"] = 3
    return getattr(tfl.at_init, method)(model, sparsity, **kwargs)


def state(model):
    """Returns all variables of a model and its optimizer except kernels and masks."""
    own = {id(v) for v in (*model.wrapper.kernels, *model.selection.masks)}
    variables = [v for v in (*model.variables, *model.optimizer.variables) if id(v) not in own]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


@pytest.mark.parametrize("kind", ["nested", "recurrent", "subclassed", "dict_inputs"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:Pruning left no weight")
def test_every_model_is_left_as_it_was_but_for_masks(
    method, kind, make_model, make_data, compile_model
):
    data = make_data(kind)
    # One kind runs in a graph, which could hold references to the model.
    mode = {"run_eagerly": False} if kind == "nested" else {}
    model = compile_model(tfl.sparsify(make_model(kind)), **mode)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(2)
    for weight in model.model.weights:
        weight.assign(weight.value + rng.uniform(0, 0.5, weight.shape))
    kernels, before = model.get_kernels(), state(model)
    sublayers = list(all_layers(model.model))
    policies = [layer.dtype_policy for layer in sublayers]
    mode = {"training": True} if method in ("snip", "grasp") else {}
    masks = apply(method, model, data, scope="global", **mode)
    size = sum(mask.size for mask in masks.values())
    assert sum(map(np.count_nonzero, masks.values())) == size - round(0.75 * size)
    for path, mask in masks.items():
        np.testing.assert_array_equal(model.get_masks()[path], mask)
        np.testing.assert_array_equal(model.kernels[path], kernels[path] * mask)
    for value, unchanged in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(value, unchanged)
    assert [layer.dtype_policy for layer in sublayers] == policies


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
def test_mixed_precision_does_not_change_masks(
    method, policy, make_model, make_data, compile_model, request
):
    before = keras.config.dtype_policy()
    request.addfinalizer(lambda: keras.config.set_dtype_policy(before))
    masks = []
    for name in ("float32", policy):
        keras.config.set_dtype_policy(name)
        model = compile_model(tfl.sparsify(make_model("subclassed")))
        masks.append(apply(method, model, make_data("subclassed")))
        assert model.model.hidden.compute_dtype == policy.removeprefix("mixed_") or not masks[1:]
    for a, b in zip(masks[0].values(), masks[1].values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.backend
@pytest.mark.parametrize("method", METHODS)
def test_pruned_weights_stay_pruned(method, make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.5))
    before = model.get_masks()
    masks = apply(method, model, make_data(), scope="layer")
    assert not any(np.any(masks[path] & ~before[path]) for path in masks)
    assert [int(mask.sum()) for mask in masks.values()] == [12, 6]


@pytest.mark.parametrize("method", METHODS)
def test_distributions_give_exact_counts(method, make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()))
    masks = apply(method, model, make_data(), scope="layer", distribution="erk")
    shapes = {path: mask.shape for path, mask in masks.items()}
    expected = distributions.erdos_renyi_kernel(shapes, 0.75)
    assert len(set(expected.values())) == 2
    for path, mask in masks.items():
        assert np.count_nonzero(~mask) == round(expected[path] * mask.size)


@pytest.mark.parametrize("method", METHODS)
def test_patterns_of_the_model_hold(method, make_data, compile_model):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, "relu", name="hidden")(inputs)
    plain = keras.Model(inputs, keras.layers.Dense(3)(x))
    model = compile_model(tfl.sparsify(plain, pattern="2:4", include="dense"))
    [mask] = apply(method, model, make_data(), sparsity=0.5, scope="layer").values()
    np.testing.assert_array_equal(mask.reshape(2, 4, 3).sum(axis=1), np.full((2, 3), 2))


@pytest.mark.parametrize("method", METHODS)
def test_arguments_outside_their_range(method, make_model, make_data, compile_model):
    data, model = make_data(), compile_model(tfl.sparsify(make_model()))
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`"):
        apply(method, make_model(), data)
    with pytest.raises(ValueError, match="`sparsity` must be in .*Received: sparsity=1.0"):
        apply(method, model, data, sparsity=1.0)
    with pytest.raises(ValueError, match="`scope` must be one of.*Received: scope='all'"):
        apply(method, model, data, scope="all")
    with pytest.raises(ValueError, match="`distribution` must be `None` unless.*Received: 'erk'"):
        apply(method, model, data, scope="global", distribution="erk")
    with pytest.raises(ValueError, match="`distribution` must be a function or one of"):
        apply(method, model, data, scope="layer", distribution="even")
    assert model.sparsity == 0


@pytest.mark.parametrize("method", ["snip", "grasp"])
def test_scores_that_are_not_finite_are_refused(method, make_model, make_data, compile_model):
    x, y = make_data()
    model = compile_model(tfl.sparsify(make_model()))
    policies = [layer.dtype_policy for layer in model.model.layers]
    with pytest.raises(ValueError, match="Scores must be finite.*hidden/kernel"):
        apply(method, model, (np.full_like(x, np.nan), y))
    assert model.sparsity == 0
    assert policies == [layer.dtype_policy for layer in model.model.layers]


def test_a_kernel_without_weights_is_warned_of(make_model):
    model = tfl.sparsify(make_model())
    with pytest.warns(UserWarning, match="left no weight in .*output/kernel"):
        tfl.at_init.random(model, 0.5, distribution={"output": 0.999}, floor=0)
    model = tfl.sparsify(make_model())
    masks = tfl.at_init.random(model, 0.5, distribution={"output": 0.999})
    assert [np.count_nonzero(mask) for mask in masks.values()] == [24, 1]
