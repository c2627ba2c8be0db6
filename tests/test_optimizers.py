import keras
import numpy as np
import pytest
from keras import layers, optimizers

from tf_lottery.layers import GrowthMemory
from tf_lottery.optimizers import (
    accumulation_steps,
    add_overwritten,
    clear_slots,
    exclude_from_weight_decay,
    loss_scale,
    remove_overwritten,
    slots,
    start_averages,
)

pytestmark = pytest.mark.backend


@pytest.fixture
def variables():
    """Kernels and biases; two have the same path, one has a path that begins with another's."""
    named = ["a", "a", "a_kernel_momentum", "b"]
    made = [layers.Dense(3, name=name) for name in named]
    for layer in made:
        layer.build((None, 4))
    return [variable for layer in made for variable in layer.trainable_variables]


def built(optimizer, variables):
    optimizer.build(variables)
    return optimizer


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (lambda: optimizers.SGD(0.1), set()),
        (lambda: optimizers.SGD(0.1, momentum=0.9), {"momentum"}),
        (lambda: optimizers.Adam(), {"momentum", "velocity"}),
        (lambda: optimizers.Adam(amsgrad=True), {"momentum", "velocity", "velocity_hat"}),
        (lambda: optimizers.Adam(use_ema=True), {"momentum", "velocity", "average"}),
        (
            lambda: optimizers.LossScaleOptimizer(optimizers.Adam(use_ema=True)),
            {"momentum", "velocity", "average"},
        ),
    ],
)
def test_slots_of_every_kernel(make, kinds, variables):
    optimizer = built(make(), variables)
    found = slots(optimizer, variables)
    names = {"momentum", "velocity", "velocity_hat", "average"}
    for variable, belonging in zip(variables, found, strict=True):
        assert set(belonging) & names == kinds
        assert all(slot.shape == variable.shape for slot in belonging.values())
    assigned = [id(slot) for belonging in found for slot in belonging.values()]
    assert len(assigned) == len(set(assigned))


def test_slots_move_with_their_own_kernel(variables):
    optimizer = built(optimizers.Adam(), variables)
    gradients = [keras.ops.zeros(v.shape) for v in variables]
    for i, variable in enumerate(variables):
        gradients[i] = keras.ops.ones(variable.shape)
        before = [
            {kind: np.array(slot) for kind, slot in belonging.items()}
            for belonging in slots(optimizer, variables)
        ]
        optimizer.apply(gradients)
        gradients[i] = keras.ops.zeros(variable.shape)
        for j, belonging in enumerate(slots(optimizer, variables)):
            grew = np.abs(np.array(belonging["velocity"])).sum() > before[j]["velocity"].sum()
            assert grew == (i == j)


def test_slots_inside_a_multi_optimizer(variables):
    if not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("this version of Keras has no MultiOptimizer")
    optimizer = built(
        optimizers.MultiOptimizer(
            optimizers.OptimizerMap(
                optimizers.SGD(0.1, momentum=0.9), {".*kernel": optimizers.Adam()}
            )
        ),
        variables,
    )
    found = slots(optimizer, variables)
    for variable, belonging in zip(variables, found, strict=True):
        kinds = {"momentum", "velocity"} if variable.name == "kernel" else {"momentum"}
        assert set(belonging) == kinds


def test_overwritten_variables_are_added_once_and_taken_back(variables):
    state = GrowthMemory(decay=0.0)
    state.create_variables(variables[:4:2])
    state.collect(True)
    optimizer = built(optimizers.Adam(use_ema=True), variables)
    num_variables = len(optimizer.variables)
    all_variables = [*variables, *state.gradients]
    before = [np.array(v) for v in variables]
    for _ in range(2):
        add_overwritten(optimizer, state.gradients)
        optimizer.apply([keras.ops.ones(v.shape) for v in all_variables], all_variables)
    assert [float(np.mean(v)) for v in state.gradients] == [1.0, 1.0]
    assert len(optimizer.variables) == num_variables
    for _ in range(2):
        remove_overwritten(optimizer, state.gradients)
        optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
    optimizer.finalize_variable_values(variables)
    assert all(np.all(b != np.array(v)) for b, v in zip(before, variables, strict=True))


def test_overwritten_variables_can_stand_between_others(variables):
    state = GrowthMemory(decay=0.0)
    state.create_variables(variables[:1])
    state.collect(True)
    optimizer = built(optimizers.Adam(use_ema=True), variables)
    # As in a model with a sparse part in the middle.
    trained = [*variables[:3], *state.gradients, *variables[3:]]
    add_overwritten(optimizer, state.gradients, trained)
    values = [v.value for v in trained], [v.value for v in optimizer.variables]
    gradients = [float(i) * keras.ops.ones(v.shape) for i, v in enumerate(trained, start=1)]
    optimizer.apply(gradients)
    assert float(np.mean(state.gradients[0])) == 4.0
    momenta = [np.mean(found["momentum"]) for found in slots(optimizer, variables)]
    np.testing.assert_allclose(momenta, [0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9], rtol=1e-5)
    if keras.backend.backend() == "jax":
        found, _ = optimizer.stateless_apply(values[1], gradients, values[0])
        assert float(np.mean(found[3])) == 4.0
    remove_overwritten(optimizer, state.gradients)
    optimizer.apply(gradients[:3] + gradients[4:])
    optimizer.finalize_variable_values(variables)


@pytest.mark.parametrize("wrap", [lambda adam: adam, optimizers.LossScaleOptimizer])
def test_steps_of_accumulation(wrap, variables):
    optimizer = built(wrap(optimizers.Adam(gradient_accumulation_steps=3)), variables)
    assert accumulation_steps(optimizer) == 3
    assert accumulation_steps(built(wrap(optimizers.Adam()), variables)) == 1


def test_overwritten_variables_are_summed_over_the_batches_of_a_step(variables):
    state = GrowthMemory(decay=0.5)
    state.create_variables(variables[:1])
    state.collect(True)
    optimizer = built(optimizers.SGD(0.1, gradient_accumulation_steps=3), variables[:1])
    trained = [variables[0], *state.gradients]
    add_overwritten(optimizer, state.gradients, trained, 0.5)
    found = []
    for value in (1.0, -8.0, 3.0, 2.0, 5.0):
        optimizer.apply([value * keras.ops.ones(v.shape) for v in trained])
        found.append(float(np.mean(state.gradients[0])))
    assert found == [1.0, -7.0, -4.0, 0.0, 5.0]
    remove_overwritten(optimizer, state.gradients)
    # Keras' own method is restored, which takes the maximum.
    assert "_overwrite_variables_directly_with_gradients" not in vars(optimizer)


def test_loss_scale(variables):
    assert loss_scale(built(optimizers.Adam(), variables)) == 1
    assert loss_scale(built(optimizers.Adam(loss_scale_factor=8), variables)) == 8
    scaled = optimizers.LossScaleOptimizer(optimizers.Adam(), initial_scale=4)
    assert loss_scale(built(scaled, variables)) == 4


def test_cleared_slots_are_as_at_the_beginning(variables):
    optimizer = built(optimizers.Adam(use_ema=True), variables)
    optimizer.apply([keras.ops.ones(v.shape) for v in variables])
    chosen = [variables[0], variables[5]]
    clear_slots(optimizer, variables, chosen)
    for i, (variable, found) in enumerate(zip(variables, slots(optimizer, variables), strict=True)):
        average = found.pop("average")
        if i in (0, 5):
            np.testing.assert_array_equal(np.array(average), np.array(variable))
        assert all(np.any(slot) == (i not in (0, 5)) for slot in found.values())
    # Momentum 0.1 and velocity 0.001 after a first step, and after a second one.
    optimizer.apply([keras.ops.ones(v.shape) for v in variables])
    momenta = [float(np.mean(found["momentum"])) for found in slots(optimizer, variables)]
    np.testing.assert_allclose(momenta, [0.1, *[0.19] * 4, 0.1, 0.19, 0.19], rtol=1e-5)


def test_slots_are_cleared_in_places(variables):
    optimizer = built(optimizers.SGD(0.1, momentum=0.5), variables)
    optimizer.apply([keras.ops.ones(v.shape) for v in variables])
    first, last = np.eye(4, 3, dtype=bool), np.arange(12).reshape(4, 3) > 9
    clear_slots(optimizer, variables, [variables[0], variables[0]], [first, last])
    momentum = np.array(slots(optimizer, variables)[0]["momentum"])
    assert (momentum == 0).tolist() == (first | last).tolist()


def test_cleared_accumulators_are_not_zero(variables):
    optimizer = built(optimizers.Adagrad(initial_accumulator_value=0.25), variables)
    optimizer.apply([keras.ops.ones(v.shape) for v in variables])
    clear_slots(optimizer, variables, variables[:1])
    accumulators = [np.mean(found["accumulator"]) for found in slots(optimizer, variables)]
    assert accumulators == [0.25, *[1.25] * 7]


def with_exclusion(optimizer, variables):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def with_excluded_variable(optimizer, variables):
    optimizer.exclude_from_weight_decay(var_list=variables[2:3])
    return optimizer


def inside_a_loss_scale(optimizer, variables):
    return optimizers.LossScaleOptimizer(optimizer)


def inside_a_multi_optimizer(optimizer, variables):
    if not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("this version of Keras has no MultiOptimizer")
    return optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizer, {"b/.*": optimizers.AdamW(0.1, weight_decay=0.5)})
    )


@pytest.mark.parametrize(
    ("wrap", "others"),
    [
        (lambda optimizer, variables: optimizer, []),
        (with_exclusion, [1, 3, 5, 7]),
        (with_excluded_variable, [2]),
        (inside_a_loss_scale, []),
        (inside_a_multi_optimizer, []),
    ],
)
def test_variables_excluded_from_weight_decay(wrap, others, variables):
    optimizer = wrap(optimizers.AdamW(0.1, weight_decay=0.5), variables)
    exclude_from_weight_decay(optimizer, [variables[0], variables[6]])
    built(optimizer, variables)
    for variable in variables:
        variable.assign(keras.ops.ones(variable.shape))
    gradients = [keras.ops.zeros(v.shape) for v in variables]
    found = variables
    if keras.backend.backend() == "jax":
        # On JAX a loss scale only works without side effects, as in the trainer.
        states = [v.value for v in optimizer.variables], gradients, [v.value for v in variables]
        found, _ = optimizer.stateless_apply(*states)
    else:
        optimizer.apply(gradients)
    # Without a gradient a weight of one decays to 1 - 0.1 * 0.5.
    expected = [1.0 if i in (0, 6, *others) else 0.95 for i in range(8)]
    means = [np.mean(keras.ops.convert_to_numpy(value)) for value in found]
    np.testing.assert_allclose(means, expected, rtol=1e-6)


def test_averages_start_at_the_weights(variables):
    optimizer = built(optimizers.SGD(0.1, use_ema=True), variables)
    for variable in variables:
        variable.assign(variable + 1.0)
    start_averages(optimizer, variables)
    averages = [v for v in optimizer.variables if v.name.endswith("_average")]
    for average, variable in zip(averages, variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (average, variable)))
