import keras
import numpy as np
import pytest

import tf_lottery as tfl

pytestmark = pytest.mark.backend


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_sparsify_hits_the_sparsity(scope, make_model):
    sparse = tfl.sparsify(make_model(), sparsity=0.75, scope=scope)
    assert sum(np.count_nonzero(~m) for m in sparse.get_masks().values()) == 0.75 * (48 + 24)
    if scope == "layer":
        assert [np.count_nonzero(~m) for m in sparse.get_masks().values()] == [36, 18]


def test_sparsify_prunes_the_smallest(make_model):
    model = make_model()
    kernel = np.abs(keras.ops.convert_to_numpy(model.layers[0].kernel))
    mask = next(iter(tfl.sparsify(model, sparsity=0.5).get_masks().values()))
    assert kernel[mask].min() > kernel[~mask].max()


def test_random_masks_depend_on_the_seed(make_model):
    first, again, other = (
        tfl.sparsify(make_model(), 0.5, scores="random", seed=seed).get_masks()
        for seed in (1, 1, 2)
    )
    for path, mask in first.items():
        np.testing.assert_array_equal(mask, list(again.values())[list(first).index(path)])
    assert any(np.any(a != b) for a, b in zip(first.values(), other.values(), strict=True))


def test_prune_refines_in_any_training_loop(make_model):
    sparse = tfl.sparsify(make_model())
    before = sparse.get_masks()
    for sparsity in (0.25, 0.5):
        masks = tfl.prune(sparse, sparsity)
        assert all(np.all(before[path] >= masks[path]) for path in masks)
        assert sparse.sparsity == sparsity
        before = masks
    tfl.prune(sparse, 0.1)
    assert sparse.sparsity == 0.5


def test_emptied_kernel_is_warned_about_once(make_model):
    sparse = tfl.sparsify(make_model())
    list(sparse.kernels.values())[1].assign(np.full((8, 3), 1e-9))
    with pytest.warns(
        UserWarning, match=r"no weight in \['.*output/kernel'\].*`floor=1`"
    ) as warned:
        tfl.prune(sparse, 0.5, scope="global", floor=0)
        tfl.prune(sparse, 0.6, scope="global", floor=0)
    assert sum("no weight" in str(warning.message) for warning in warned) == 1


def test_floor_leaves_a_weight_in_every_kernel(make_model):
    sparse = tfl.sparsify(make_model())
    output = list(sparse.kernels)[1]
    values = np.full((8, 3), 1e-9)
    values[4, 1] = 2e-9
    sparse.kernels[output].assign(values)
    masks = tfl.prune(sparse, 0.5, scope="global")
    assert sparse.sparsity == 0.5
    assert np.argwhere(masks[output]).tolist() == [[4, 1]]
    with pytest.warns(UserWarning, match="too few weights for `floor=1` in every kernel"):
        tfl.prune(sparse, 71 / 72, scope="global")
    assert sparse.sparsity == 71 / 72


def test_prune_compares_with_a_snapshot(make_model):
    sparse = tfl.sparsify(make_model())
    start = tfl.Snapshot(sparse)
    kernel = next(iter(sparse.kernels.values()))
    change = np.zeros(kernel.shape, "float32")
    change[2, 3] = 1.0
    kernel.assign(kernel + change)
    masks = tfl.prune(sparse, 71 / 72, scores="movement", scope="global", floor=0, initial=start)
    assert np.argwhere(next(iter(masks.values()))).tolist() == [[2, 3]]


@pytest.mark.parametrize("sparsity", [1.0, 1.5, -0.1, "0.5", None])
def test_sparsity_outside_its_range_is_refused(sparsity, make_model):
    with pytest.raises(ValueError, match="`sparsity` must be .*Received"):
        tfl.sparsify(make_model(), sparsity)


@pytest.mark.parametrize("arguments", [{"scope": "gobal"}, {"scores": "magnitud"}, {"include": 3}])
def test_wrong_arguments_are_named(arguments, make_model):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must .*Received"):
        tfl.sparsify(make_model(), **arguments)


@pytest.mark.parametrize("pattern", ["2:4", "4x1"])
@pytest.mark.parametrize("kind", ["nested", "attention", "subclassed"])
def test_patterns_of_every_kind_of_model(kind, pattern, make_model, make_data):
    sparse = tfl.sparsify(make_model(kind), sparsity=0.5, pattern=pattern)
    masks = sparse.to_matrices(sparse.get_masks())
    for path, mask in masks.items():
        assert sparse.pattern.holds(mask)
        group = {"2:4": 1, "4x1": 4}[pattern]
        assert np.count_nonzero(~mask) == group * round(0.5 * mask.size / group), path
    for path in masks:
        assert path not in sparse.skipped
    sparse(make_data(kind)[0])


def test_channels_are_pruned_in_all_kernels_that_make_them(make_model, make_data):
    model = make_model("residual")
    sparse = tfl.sparsify(model, sparsity=0.5, pattern="channel")
    kept = sparse.kept_channels()
    assert {name: int(mask.sum()) for name, mask in kept.items()} == {"stem": 2, "inner": 3}
    assert list(sparse.kernels) == ["stem/kernel", "inner/kernel", "outer/kernel"]
    assert list(sparse.skipped) == ["head/kernel"]
    x, _ = make_data("residual")
    expected = sparse.predict(x, verbose=0)
    small, _ = tfl.compact(sparse)
    np.testing.assert_allclose(small.predict(x, verbose=0), expected, atol=1e-5)
    assert small.count_params() < 0.35 * model.count_params()


def test_budgets_of_channels(make_model):
    model = make_model("residual")
    sparse = tfl.sparsify(model, budget={"flops": 0.4}, pattern="channel", scope="global")
    small, _ = tfl.compact(sparse)
    assert tfl.flops(small).dense <= 0.4 * tfl.flops(model).dense
    with pytest.raises(ValueError, match="Exactly one of the arguments.*Received"):
        tfl.sparsify(make_model("residual"), 0.5, budget={"flops": 0.4}, pattern="channel")
    with pytest.raises(ValueError, match="`budget` must be `None` unless.*pattern='unstr"):
        tfl.sparsify(make_model("residual"), budget={"flops": 0.4})


def test_pattern_follows_the_equation_of_attention(make_model):
    sparse = tfl.sparsify(make_model("attention"), sparsity=0.5, pattern="3x1")
    query, *_, output, _ = sparse.get_masks().values()
    # The inputs of the query are its first axis, those of the output projection its first two.
    for blocks in (query.reshape(2, 3, 2, 3), output.reshape(2, 3, 6)):
        assert np.all(blocks.any(axis=1) == blocks.all(axis=1))
        assert 0 < blocks.mean() < 1


def test_prune_follows_the_pattern_of_the_model(make_model):
    sparse = tfl.sparsify(make_model("subclassed"), pattern="2:4")
    tfl.prune(sparse, 0.5)
    assert all(mask.reshape(-1, 4, mask.shape[-1]).sum(axis=1).max() == 2 for mask in masks(sparse))
    tfl.prune(sparse, 0.6, pattern="unstructured")
    assert sparse.sparsity == pytest.approx(0.6, abs=0.01)


def test_kernels_that_another_pattern_does_not_divide_keep_their_masks(make_model):
    sparse = tfl.sparsify(make_model(), sparsity=0.25)
    hidden, output = masks(sparse)
    with pytest.warns(
        UserWarning, match="keep their masks: {'.*hidden/kernel': 'its 6 inputs"
    ) as warned:
        pruned = tfl.prune(sparse, 0.75, scope="layer", pattern="4x1")
    assert sum("keep their masks" in str(warning.message) for warning in warned) == 1
    np.testing.assert_array_equal(masks(sparse)[0], hidden)
    assert list(pruned) == list(sparse.kernels)
    assert np.count_nonzero(masks(sparse)[1]) <= 2 * 4 < np.count_nonzero(output)
    sparsities = dict.fromkeys(sparse.kernels, 0.9)
    with pytest.warns(UserWarning, match="keep their masks"):
        tfl.prune(sparse, sparsities, scope="layer", pattern="4x1")
    assert [mask.any() for mask in masks(sparse)] == [True, True]


@pytest.mark.parametrize("arguments", [{}, {"scores": "obs", "data": np.eye(6)}])
def test_the_warning_of_kernels_that_keep_their_masks_points_at_the_call(arguments, make_model):
    with pytest.warns(UserWarning, match="keep their masks") as warned:
        tfl.prune(tfl.sparsify(make_model()), 0.5, pattern="4x1", **arguments)
    assert [w.filename for w in warned if "keep their masks" in str(w.message)] == [__file__]


def test_pattern_that_divides_no_kernel_is_refused(make_model):
    with pytest.raises(ValueError, match="`pattern` must divide at least one.*Received.*5x1"):
        tfl.prune(tfl.sparsify(make_model()), 0.5, pattern="5x1")


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("uniform", [0.5, 0.5]),
        ("erk", [28 / 48, 8 / 24]),  # 0.58 and 0.34, as epsilon is 36 / 25
        (lambda shapes, sparsity: dict.fromkeys(shapes, sparsity / 2), [0.25, 0.25]),
        ({"output": 0.125}, [0.5, 0.125]),
        ({"output": 0.125, ".": 0.25}, [0.25, 0.125]),
    ],
)
def test_distributions(distribution, expected, make_model):
    sparse = tfl.sparsify(make_model(), 0.5, distribution=distribution)
    assert [1 - mask.mean() for mask in masks(sparse)] == pytest.approx(expected)
    other = tfl.sparsify(make_model())
    tfl.prune(other, 0.5, scope="layer", distribution=distribution)
    for mask, twin in zip(masks(sparse), masks(other), strict=True):
        np.testing.assert_array_equal(mask, twin)


def test_distribution_by_path_alone_leaves_the_rest_dense(make_model):
    model = make_model()
    path = model.layers[1].kernel.path
    sparse = tfl.sparsify(model, distribution={path: 0.5})
    assert [mask.mean() for mask in masks(sparse)] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distribution": "kernel"}, "`distribution` must be a function or one of"),
        ({"distribution": {"ouput": 0.5}}, "`distribution` must only have expressions"),
        ({"distribution": {"output": 1.0}}, r"`distribution\['.*output/kernel'\]` must be in"),
        ({"distribution": "erk", "scope": "global"}, "`distribution` must be `None` unless"),
        ({"distribution": lambda shapes, s: {"a": s}}, "`distribution` must return a sparsity"),
        ({"sparsity": {"output": 0.5}, "distribution": "erk"}, "`sparsity` must be a number"),
        ({"pattern": "2of4"}, "`pattern`"),
        ({"floor": 0.5}, "`floor` must be an integer"),
    ],
)
def test_wrong_distributions_and_patterns_are_named(arguments, message, make_model):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        tfl.sparsify(make_model(), **{"sparsity": 0.5, **arguments})
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        sparse = tfl.sparsify(make_model())
        tfl.prune(sparse, **{"sparsity": 0.5, "scope": "layer", **arguments})
    assert sparse.density == 1.0


def masks(sparse):
    return list(sparse.get_masks().values())


@pytest.mark.parametrize(
    "arguments", [{"sparsity": 0.5}, {"distribution": "erk"}, {"keep_zeros": True}]
)
def test_gates_exclude_a_sparsity(arguments, make_model):
    with pytest.raises(ValueError, match="`gate` excludes `sparsity`, .*Received"):
        tfl.sparsify(make_model(), gate=tfl.SoftGate(), **arguments)


def test_wrong_gate_is_named(make_model):
    with pytest.raises(ValueError, match="`gate` must be a `tfl.SoftGate`. Received: 'soft'"):
        tfl.sparsify(make_model(), gate="soft")


def test_gates_of_chosen_kernels(make_model):
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate(), exclude="output")
    assert [tuple(gate.shape) for gate in sparse.selection.gates] == [(6, 8)]
    assert any("output/kernel" in path for path in sparse.skipped)


@pytest.mark.parametrize(
    "prune",
    [
        lambda model, x, y: tfl.prune(model, 0.5),
        lambda model, x, y: tfl.at_init.random(model, 0.5),
        lambda model, x, y: tfl.at_init.synflow(model, 0.5),
        lambda model, x, y: tfl.at_init.snip(model, (x, y), 0.5),
        lambda model, x, y: tfl.at_init.grasp(model, (x, y), 0.5),
        *(
            lambda model, x, y, make=make: model.fit(x, y, verbose=0, callbacks=[make()])
            for make in (
                lambda: tfl.callbacks.IterativeMagnitudePruning(1, 1),
                lambda: tfl.callbacks.GradualMagnitudePruning(tfl.sparsity.Constant(0.5), 1),
                lambda: tfl.callbacks.RigL(1, end_step=3),
                lambda: tfl.callbacks.SET(1, end_step=3),
                lambda: tfl.callbacks.SNFS(1, end_step=3),
            )
        ),
    ],
)
def test_what_sets_masks_refuses_soft_gates(prune, make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), gate=tfl.SoftGate(0.1)))
    before = model.get_weights()
    with pytest.raises(ValueError, match="`model` must not have soft gates.*Received: 'sparse_"):
        prune(model, *make_data())
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_settled_gates_can_be_pruned_further(make_model):
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate(0.1))
    tfl.strip(sparse)
    before = sparse.get_kernels()
    tfl.prune(sparse, 0.5)
    assert sparse.density == 0.5
    for path, kernel in sparse.get_kernels().items():
        np.testing.assert_array_equal(kernel, before[path] * sparse.get_masks()[path])
