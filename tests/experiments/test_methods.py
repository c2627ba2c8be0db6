import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments import data, methods, networks
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.training import TrainSettings


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def start(digits, **settings):
    settings = TrainSettings(model="lenet-300-100", **settings)
    model = methods.starting_model(digits, settings, seed=2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, settings


def first(arrays):
    """The entry of the first kernel."""
    return next(iter(arrays.values()))


def sparsities(model):
    return {path: np.mean(~mask) for path, mask in model.get_masks().items()}


@pytest.mark.parametrize("method", ["static", "rigl", "set", "snfs"])
@pytest.mark.parametrize("distribution", [None, "uniform", "er"])
def test_methods_that_start_sparse(digits, method, distribution):
    model, _ = start(digits, method=method, sparsity=0.8, distribution=distribution)
    shapes = {path: tuple(kernel.shape) for path, kernel in model.kernels.items()}
    expected = tfl.sparsity.distributions.get(distribution or "erk")(shapes, 0.8)
    found = sparsities(model)
    assert {path: round(s, 2) for path, s in found.items()} == {
        path: round(s, 2) for path, s in expected.items()
    }
    magnitudes = np.abs(first(model.get_kernels()))[first(model.get_masks())]
    # Random masks keep some small weights, too.
    assert magnitudes.min() < 3e-3


@pytest.mark.parametrize(
    ("network", "rescale", "is_rescaled"),
    [
        ("lenet-300-100", None, True),
        ("lenet-300-100", False, False),
        ("conv-4-norms-small", None, False),
        ("conv-4-norms-small", True, True),
    ],
)
def test_weights_are_rescaled_where_no_normalization_follows(digits, network, rescale, is_rescaled):
    settings = TrainSettings("rigl", network, 0.75, distribution="uniform", rescale=rescale)
    model = methods.starting_model(digits, settings, seed=0)
    plain = networks.build(network, digits, seed=0)
    path, kernel = list(model.get_kernels().items())[-2]
    dense = dict(zip(model.kernels, (v for v in plain.weights if v.name == "kernel"), strict=True))
    dense, mask = keras.ops.convert_to_numpy(dense[path]), model.get_masks()[path]
    kept = mask.sum(axis=tuple(range(mask.ndim - 1))) / (mask.size // mask.shape[-1])
    factor = 1 / np.sqrt(kept) if is_rescaled else 1.0
    np.testing.assert_allclose(kernel, dense * mask * factor, rtol=1e-5)


@pytest.mark.parametrize("method", ["gmp", "imp", "snip", "grasp", "synflow", "dense"])
def test_methods_that_start_dense(digits, method):
    assert start(digits, method=method)[0].density == 1.0


def test_masks_depend_on_the_seed(digits):
    settings = TrainSettings("static", "lenet-300-100")
    masks = [
        first(methods.starting_model(digits, settings, seed).get_masks()) for seed in (0, 0, 1)
    ]
    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[2])


def test_pattern(digits):
    model, _ = start(digits, method="rigl", sparsity=0.5, pattern="2:4")
    mask = first(model.get_masks())
    assert (mask.reshape(-1, 4, 300).sum(axis=1) == 2).all()


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
@pytest.mark.parametrize("distribution", [None, "uniform"])
def test_pruning_before_training(digits, method, distribution):
    batches = ShuffledBatches(*digits.train, batch_size=20)
    found = []
    for _ in range(2):
        model, settings = start(digits, method=method, sparsity=0.7, distribution=distribution)
        methods.prune_before_training(model, settings, batches)
        assert model.sparsity == pytest.approx(0.7, abs=1e-4)
        found.append(model.get_masks())
    by_layer = [round(s, 2) == 0.7 for s in sparsities(model).values()]
    assert all(by_layer) == (distribution == "uniform")
    for path, mask in found[0].items():
        np.testing.assert_array_equal(mask, found[1][path])


def test_other_methods_do_not_prune_before_training(digits):
    model, settings = start(digits, method="gmp")
    methods.prune_before_training(model, settings, None)
    assert model.density == 1.0


@pytest.mark.parametrize(("steps", "frequency"), [(10, 1), (190, 9), (2000, 100), (50_000, 100)])
@pytest.mark.parametrize("method", ["rigl", "set", "snfs"])
def test_dynamic_methods(method, steps, frequency):
    (callback,) = methods.mask_updates(TrainSettings(method), steps, seed=3)
    assert type(callback).__name__.lower() == method
    assert (callback.frequency, callback.drop_fraction) == (frequency, 0.3)
    assert callback.end_step is None
    assert callback.seed == (3 if method == "set" else 0)


def test_options_reach_the_callbacks():
    settings = TrainSettings("rigl", drop_fraction=0.1, frequency=7, end_step=70)
    (rigl,) = methods.mask_updates(settings, 100, seed=0)
    assert (rigl.drop_fraction, rigl.frequency, rigl.end_step) == (0.1, 7, 70)
    settings = TrainSettings("gmp", sparsity=0.7, frequency=7, end_step=70, scope="layer")
    (gmp,) = methods.mask_updates(settings, 100, seed=0)
    assert (gmp.frequency, gmp.scope) == (7, "layer")
    schedule = gmp.schedule
    assert (schedule.final_value, schedule.begin_step, schedule.end_step) == (0.7, 10, 70)


def test_gradual_pruning_with_a_distribution_ranks_layer_by_layer():
    (gmp,) = methods.mask_updates(TrainSettings("gmp", distribution="erk"), 1000, seed=0)
    assert (gmp.scope, gmp.distribution) == ("layer", "erk")
    (gmp,) = methods.mask_updates(TrainSettings("gmp"), 1000, seed=0)
    assert (gmp.scope, gmp.distribution) == ("global", None)


def test_gradual_pruning_ends_at_three_quarters():
    (gmp,) = methods.mask_updates(TrainSettings("gmp"), 1000, seed=0)
    assert (gmp.schedule.end_step, gmp.frequency) == (750, 10)


@pytest.mark.parametrize("method", ["static", "snip", "grasp", "synflow", "dense"])
def test_methods_that_change_nothing(method):
    assert methods.mask_updates(TrainSettings(method), 100, seed=0) == []


@pytest.mark.parametrize("method", ["gmp", "rigl"])
def test_end_step_beyond_the_training(method):
    assert methods.mask_updates(TrainSettings(method, end_step=100), 100, seed=0)
    with pytest.raises(ValueError, match="`end_step` .* 99 steps. Received: end_step=100"):
        methods.mask_updates(TrainSettings(method, end_step=100), 99, seed=0)


def test_ticket_search(tmp_path):
    settings = TrainSettings("imp", sparsity=0.75, epochs=3, levels=2, scope="layer")
    search = methods.ticket_search(settings, 10, tmp_path)
    assert (search.levels, search.rate, search.scope, search.epochs) == (2, 0.5, "layer", 9)


def test_search_by_gates(digits, tmp_path):
    model, settings = start(
        digits, method="cs", epochs=3, rounds=2, target_density=0.1, initial_value=-0.1
    )
    assert (model.selection.gate.initial_value, model.has_soft_gates) == (-0.1, True)
    search = methods.ticket_search(settings, 10, tmp_path)
    assert (search.rounds, search.target_density, search.mode) == (2, 0.1, "ticket")
    assert (search.epochs, search.exact_density) == (9, False)


def test_gates_with_an_optimizer_of_their_own(digits):
    settings = {"method": "cs", "optimizer": "sgd", "schedule": "cosine", "weight_decay": 1e-3}
    plain, _ = start(digits, **settings)
    assert plain.selection.gate.make_optimizer() is None
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this version of Keras has no MultiOptimizer")
    settings = TrainSettings(model="lenet-300-100", gate_learning_rate=0.3, **settings)
    gate = methods.starting_model(digits, settings, seed=0, steps=40).selection.gate
    optimizer = gate.make_optimizer()
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.9, True, None)
    optimizer.build([])
    optimizer.iterations.assign(20)
    assert float(optimizer.learning_rate) == pytest.approx(0.15)


def test_rewind_points_of_gates_are_ends_of_epochs(tmp_path):
    settings = TrainSettings("cs", epochs=3, rewind_to_step=20)
    assert methods.ticket_search(settings, 10, tmp_path).rewind_to_epoch == 2
    assert methods.ticket_search(TrainSettings("cs", epochs=9), 10, tmp_path).rewind_to_epoch == 2
    with pytest.raises(ValueError, match="`rewind_to_step` must be the end .* 8 steps.*=20"):
        methods.ticket_search(settings, 8, tmp_path)
    with pytest.raises(ValueError, match="within the first round, .* 15 steps.*=20"):
        methods.ticket_search(settings, 5, tmp_path)


def test_epochs_that_magnitude_pruning_takes():
    # 0.8 ** 3 is 0.512: three levels after the first.
    assert methods.search_epochs(density=0.512, epochs=4) == 16
    assert methods.search_epochs(density=0.5, epochs=4) == 20
