import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import controls

INITIAL = np.array([[1.0, -4.0], [2.0, 3.0]])
FINAL = np.array([[-3.0, -1.0], [2.5, 0.5]])


def make_ticket(mask=((1, 1), (1, 1))):
    masks = {"a/kernel": np.array(mask, bool), "b/kernel": np.ones((1, 2), bool)}
    weights = {"a/kernel": INITIAL, "b/kernel": np.array([[1.0, 2.0]]), "a/bias": np.zeros(2)}
    return tfl.Ticket(masks, weights, level=2)


TRAINED = {"a/kernel": FINAL, "b/kernel": np.array([[1.0, 8.0]])}


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("large_final", [[1, 0], [1, 0]]),
        ("magnitude", [[1, 0], [1, 0]]),
        ("small_final", [[0, 1], [0, 1]]),
        ("large_init", [[0, 1], [0, 1]]),
        ("small_init", [[1, 0], [1, 0]]),
        ("magnitude_increase", [[1, 0], [1, 0]]),
        ("movement", [[1, 1], [0, 0]]),
        ("movement_same_sign", [[0, 1], [0, 1]]),
        ("large_final_same_sign", [[0, 1], [1, 0]]),
        ("large_final_different_sign", [[1, 1], [0, 0]]),
        (lambda weights, initial_weights, rng: weights, [[0, 0], [1, 1]]),
    ],
)
def test_criteria(criterion, expected):
    control = controls.supermask(make_ticket(), TRAINED, 0.5, criterion)
    np.testing.assert_array_equal(control.masks["a/kernel"], np.array(expected, bool))
    assert control.masks["b/kernel"].sum() == 1
    assert control.weights.keys() == {"a/kernel", "b/kernel", "a/bias"}
    np.testing.assert_array_equal(control.weights["a/kernel"], INITIAL)
    assert control.level == 3


def test_the_best_known_criterion_is_the_default():
    control = controls.supermask(make_ticket(), TRAINED, 0.5)
    np.testing.assert_array_equal(control.masks["a/kernel"], [[False, True], [True, False]])
    assert control.provenance["control"] == [
        {
            "name": "supermask",
            "sparsity": 0.5,
            "criterion": "large_final_same_sign",
            "scope": "layer",
            "floor": 1,
            "seed": 0,
        }
    ]


def test_scope_and_sparsity_by_kernel():
    control = controls.supermask(make_ticket(), TRAINED, 0.5, "large_final", scope="global")
    np.testing.assert_array_equal(control.masks["a/kernel"], [[True, False], [True, False]])
    np.testing.assert_array_equal(control.masks["b/kernel"], [[False, True]])
    sparsity = {"^b": 0.0, ".": 0.75}
    control = controls.supermask(make_ticket(), TRAINED, sparsity, "large_final")
    np.testing.assert_array_equal(control.masks["a/kernel"], [[True, False], [False, False]])
    assert control.masks["b/kernel"].all()


def test_pruned_weights_stay_pruned():
    ticket = make_ticket([[0, 1], [1, 1]])
    control = controls.supermask(ticket, TRAINED, 0.5, "large_final")
    np.testing.assert_array_equal(control.masks["a/kernel"], [[False, True], [True, False]])


def test_kernel_without_a_weight_left_is_warned_of():
    with pytest.warns(UserWarning, match=r"left no weight in \['b/kernel'\]") as caught:
        controls.supermask(make_ticket(), TRAINED, {"^a": 0.5, "^b": 0.9}, floor=0)
    assert caught[0].filename == __file__


def test_random_depends_on_the_seed(model_ticket):
    ticket = model_ticket(sparsity=0.0)
    masks = [
        controls.supermask(ticket, ticket.weights, 0.5, "random", seed=seed).masks
        for seed in (1, 1, [1, 2])
    ]
    for path in ticket.masks:
        np.testing.assert_array_equal(masks[0][path], masks[1][path])
        assert (masks[0][path] != masks[2][path]).any()


def test_every_kind_of_source(make_model, compile_model, make_data):
    model = make_model()
    initial = [weight.copy() for weight in model.get_weights()]
    sparse = compile_model(tfl.sparsify(model))
    start = tfl.Snapshot(sparse)
    ticket = tfl.Ticket.from_model(sparse)
    sparse.fit(*make_data(), epochs=3, verbose=0)
    expected = controls.supermask(ticket, sparse, 0.5)
    for path, weight in zip(ticket.weights, initial, strict=True):
        np.testing.assert_array_equal(expected.weights[path], weight)
    untrained = tfl.sparsify(make_model())
    for first, second in (
        (start, sparse),
        (start.weights, sparse),
        (untrained, sparse),
        (untrained, model),
        (ticket, tfl.Snapshot(sparse)),
        (ticket, model),
    ):
        control = controls.supermask(first, second, 0.5)
        pairs = [control.masks, control.weights, expected.masks, expected.weights]
        masks, weights, expected_masks, expected_weights = (list(d.values()) for d in pairs)
        for found, mask in zip(masks, expected_masks, strict=True):
            np.testing.assert_array_equal(found, mask)
        for found, weight in zip(weights, expected_weights, strict=True):
            np.testing.assert_array_equal(found, weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": {}}, "`initial` must be a `Ticket` or `SparseModel`.*initial=dict, final=di"),
        ({"final": 3}, "`final` must be a built.*Received: final=3"),
        ({"final": {}}, "`final` must have all weights of the ticket.*a/kernel"),
        ({"sparsity": 1.0}, "`sparsity` must be in .*Received"),
        ({"sparsity": {"^a": 0.5}}, "`sparsity` must have an expression for every kernel"),
        ({"sparsity": {"^a": 0.5}, "scope": "global"}, "`sparsity` must be a single number"),
        ({"criterion": "largest"}, "`scores` must be a function or one of.*Received.*'largest'"),
        ({"scope": "network"}, "`scope` must be one of"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    defaults = {"initial": make_ticket(), "final": TRAINED, "sparsity": 0.5}
    with pytest.raises(ValueError, match=message):
        controls.supermask(**{**defaults, **arguments})


def numpy_logits(ticket, x, rescale=False):
    """Computes the outputs of the `dense` model with masked weights in NumPy."""
    kernels = [ticket.weights[path] * mask for path, mask in ticket.masks.items()]
    biases = [weight for weight in ticket.weights.values() if weight.ndim == 1]
    if rescale:
        kernels = [k / m.mean() for k, m in zip(kernels, ticket.masks.values(), strict=True)]
    hidden = np.maximum(x @ kernels[0] + biases[0], 0)
    return hidden @ kernels[1] + biases[1]


@pytest.mark.parametrize("rescale", [False, True])
def test_evaluation_predicts_with_masked_initial_weights(
    rescale, make_model, make_data, compile_model, model_ticket
):
    x, y = make_data(size=50)
    ticket = model_ticket(sparsity=0.6)
    for path, weight in ticket.weights.items():
        if weight.ndim == 1:
            ticket.weights[path] = np.linspace(-0.5, 0.5, weight.size, dtype="float32")
    sparse = compile_model(tfl.sparsify(make_model()), metrics=["accuracy"])
    found = controls.evaluate_supermask(ticket, sparse, x, y, rescale=rescale, batch_size=25)
    logits = numpy_logits(ticket, x, rescale)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    assert found.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose(found["accuracy"], (logits.argmax(axis=1) == y).mean(), rtol=1e-6)
    np.testing.assert_allclose(
        found["loss"], -np.log(probabilities[range(50), y]).mean(), rtol=1e-5
    )


def test_evaluation_leaves_the_model_as_it_was(make_model, make_data, compile_model, model_ticket):
    x, y = make_data()
    ticket = model_ticket()
    sparse = compile_model(tfl.sparsify(make_model(), sparsity=0.3))
    sparse.fit(x, y, epochs=1, verbose=0)
    before = tfl.Snapshot(sparse).to_arrays()
    controls.evaluate_supermask(ticket, sparse, x, y, rescale=True)
    after = tfl.Snapshot(sparse).to_arrays()
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    sparse.fit(x, y, epochs=1, verbose=0)


def test_evaluation_that_fails_leaves_the_model_as_it_was(
    make_model, make_data, compile_model, model_ticket
):
    ticket = model_ticket()
    sparse = compile_model(tfl.sparsify(make_model(), exclude="output"))
    before = sparse.get_weights()
    with pytest.raises(ValueError, match="`model` must have the architecture.*output/kernel"):
        controls.evaluate_supermask(ticket, sparse, *make_data())
    for value, found in zip(before, sparse.get_weights(), strict=True):
        np.testing.assert_array_equal(found, value)


def test_rescaling_leaves_kernels_without_weights_alone(
    make_model, make_data, compile_model, model_ticket
):
    ticket = model_ticket()
    masks = {path: np.zeros_like(mask) for path, mask in ticket.masks.items()}
    sparse = compile_model(tfl.sparsify(make_model()))
    empty = tfl.Ticket(masks, ticket.weights)
    found = controls.evaluate_supermask(empty, sparse, *make_data(), rescale=True)
    # Three classes with equal logits.
    np.testing.assert_allclose(found["loss"], np.log(3), rtol=1e-6)


def test_rescaling_changes_no_accuracy_without_biases(
    make_model, make_data, compile_model, model_ticket
):
    ticket = model_ticket()
    sparse = compile_model(tfl.sparsify(make_model()), metrics=["accuracy"])
    plain, rescaled = (
        controls.evaluate_supermask(ticket, sparse, *make_data(), rescale=r) for r in (False, True)
    )
    assert plain["accuracy"] == rescaled["accuracy"]
    assert abs(plain["loss"] - rescaled["loss"]) > 0.01


def test_wrong_models_are_named(make_model, make_data, compile_model, model_ticket):
    ticket, data = model_ticket(), make_data()
    with pytest.raises(ValueError, match="`model` must be compiled.*Received.*is not compiled"):
        controls.evaluate_supermask(ticket, tfl.sparsify(make_model()), *data)
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`"):
        controls.evaluate_supermask(ticket, make_model(), *data)
    with pytest.raises(ValueError, match="`model` must not have soft gates"):
        gated = compile_model(tfl.sparsify(make_model(), gate=tfl.SoftGate()))
        controls.evaluate_supermask(ticket, gated, *data)
    with pytest.raises(ValueError, match="`ticket` must be a `Ticket`"):
        controls.evaluate_supermask("a", tfl.sparsify(make_model()), *data)


def test_masks_of_training_predict_with_untrained_weights(compile_model):
    """Data in three clusters: chance is 1/3; a tenth of the initial weights does far better."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    x = (rng.normal(size=(3, 20))[y] + 0.5 * rng.normal(size=(600, 20))).astype("float32")
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(3, name="output")]
    plain = keras.Sequential([keras.Input((20,)), *layers])
    # In a graph, which pays off for 190 steps.
    sparse = compile_model(tfl.sparsify(plain), run_eagerly=False, metrics=["accuracy"])
    start = tfl.Ticket.from_model(sparse)
    sparse.fit(x, y, epochs=10, verbose=0)
    found = {
        criterion: controls.evaluate_supermask(
            controls.supermask(start, sparse, {"output": 0.5, ".": 0.9}, criterion), sparse, x, y
        )["accuracy"]
        for criterion in ("large_final_same_sign", "random")
    }
    assert found["large_final_same_sign"] > max(0.8, found["random"] + 0.2)
