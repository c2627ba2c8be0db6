import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def derived_loss(student, teacher, y, alpha, temperature):
    """Returns the mean loss over the examples, by the formula of the code for ImageNet."""
    student, teacher = student.astype("float64"), teacher.astype("float64")
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    divergence = np.mean(np.sum(p * np.log(p / q), -1))
    crossentropy = -np.mean(np.log(softmax(student)[np.arange(len(y)), y]))
    return (1 - alpha) * crossentropy + alpha * temperature**2 * divergence


def network(activation=None, regularizer=None, seed=0):
    initializer = keras.initializers.RandomNormal(seed=seed)
    head = layers.Dense(
        3, activation, kernel_initializer=initializer, kernel_regularizer=regularizer
    )
    return keras.Sequential([keras.Input((6,)), head])


def training_loss(model, x, y, **kwargs):
    """Returns the loss that the first training step reports, which is the loss before it."""
    return model.fit(x, y, batch_size=24, verbose=0, **kwargs).history["loss"][0]


@pytest.mark.parametrize(("alpha", "temperature"), [(0.9, 5.0), (0.5, 1.0), (0.0, 4.0), (1, 2)])
def test_loss_is_the_published_one(alpha, temperature, make_data, compile_model):
    x, y = make_data("dense")
    x = 20 * x
    student, teacher = tfl.sparsify(network(seed=1), 0.5), network(seed=2)
    logits = student.predict(x, verbose=0), teacher.predict(x, verbose=0)
    tfl.retrain.distill(student, teacher, alpha, temperature)
    found = training_loss(compile_model(student, "sgd"), x, y)
    assert found == pytest.approx(derived_loss(*logits, y, alpha, temperature), rel=1e-4)


def test_outputs_can_be_probabilities(make_data):
    x, y = make_data("dense")
    student, teacher = tfl.sparsify(network("softmax", seed=1)), network("softmax", seed=2)
    probabilities = student.predict(x, verbose=0), teacher.predict(x, verbose=0)
    tfl.retrain.distill(student, teacher, from_logits=False)
    student.compile("sgd", "sparse_categorical_crossentropy")
    expected = derived_loss(*(np.log(p) for p in probabilities), y, 0.474, 5.0)
    assert training_loss(student, x, y) == pytest.approx(expected, rel=1e-4)


def test_regularizers_keep_their_weight(make_data, compile_model):
    x, y = make_data("dense")
    penalty = keras.regularizers.L2(0.3)
    student, teacher = tfl.sparsify(network(None, penalty, seed=1)), network(seed=2)
    kernel = ops.convert_to_numpy(student.model.layers[0].kernel)
    logits = student.predict(x, verbose=0), teacher.predict(x, verbose=0)
    tfl.retrain.distill(student, teacher)
    expected = derived_loss(*logits, y, 0.474, 5.0) + 0.3 * np.sum(kernel**2)
    assert training_loss(compile_model(student, "sgd"), x, y) == pytest.approx(expected, rel=1e-4)


def test_evaluation_reports_the_own_loss(make_data, compile_model):
    x, y = make_data("dense")
    student = compile_model(tfl.sparsify(network(seed=1)))
    before = student.evaluate(x, y, verbose=0)
    tfl.retrain.distill(student, network(seed=2))
    assert student.evaluate(x, y, verbose=0) == before


@pytest.mark.backend
def test_teacher_stays_as_it_is(make_data, compile_model):
    x, y = make_data("nested")
    teacher = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)]
    )
    student = tfl.sparsify(
        keras.Sequential([keras.Input((6, 6, 2)), layers.Flatten(), layers.Dense(3)])
    )
    before = teacher.get_weights()
    tfl.retrain.distill(student, teacher)
    compile_model(student).fit(x, y, verbose=0)
    for weight, value in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert len(student.trainable_variables) == 2


def test_nested_outputs_are_compared_one_by_one(make_data):
    def make(seed):
        inputs = keras.Input((6,))
        initializer = keras.initializers.RandomNormal(seed=seed)
        heads = [layers.Dense(3, kernel_initializer=initializer)(inputs) for _ in range(2)]
        return keras.Model(inputs, heads)

    x, y = make_data("dense")
    student, teacher = tfl.sparsify(make(1)), make(2)
    logits = zip(student.predict(x, verbose=0), teacher.predict(x, verbose=0), strict=True)
    tfl.retrain.distill(student, teacher, alpha=1)
    student.compile("sgd", 2 * [keras.losses.SparseCategoricalCrossentropy(from_logits=True)])
    expected = sum(derived_loss(*pair, y, 1, 5.0) for pair in logits)
    assert training_loss(student, x, [y, y]) == pytest.approx(expected, rel=1e-4)


def test_teacher_is_saved_and_loaded(make_data, compile_model, tmp_path):
    x, y = make_data("dense")
    student = tfl.sparsify(network(seed=1))
    tfl.retrain.distill(student, network(seed=2), alpha=0.7, temperature=3)
    compile_model(student).save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    found, expected = (training_loss(either, x, y, shuffle=False) for either in (loaded, student))
    assert found == expected
    tfl.retrain.remove_distillation(loaded)
    assert loaded.tweaks == []


def test_stripped_model_has_no_teacher(make_data):
    student = tfl.sparsify(network())
    tfl.retrain.distill(student, network(seed=2))
    assert tfl.strip(student).count_params() == network().count_params()


def test_wrong_arguments_are_named(make_model):
    student = tfl.sparsify(network())
    teacher = network(seed=1)
    with pytest.raises(ValueError, match=r"`alpha` must be in \[0, 1\]. Received: alpha=1.5"):
        tfl.retrain.distill(student, teacher, alpha=1.5)
    with pytest.raises(ValueError, match="`temperature` must be a number > 0"):
        tfl.retrain.distill(student, teacher, temperature=0)
    with pytest.raises(ValueError, match="`teacher` must be a built `keras.Model`"):
        tfl.retrain.distill(student, "teacher.keras")
    with pytest.raises(ValueError, match="must not share weights .*which shares 2 variables"):
        tfl.retrain.distill(student, student.model)
    with pytest.raises(ValueError, match=r"outputs of the student, of shapes \[\(3,\)\]"):
        tfl.retrain.distill(student, keras.Sequential([keras.Input((6,)), layers.Dense(4)]))
    with pytest.raises(ValueError, match="`student` must be a `SparseModel`"):
        tfl.retrain.distill(teacher, network())
    tfl.retrain.distill(student, teacher)
    with pytest.raises(ValueError, match="must not have distillation yet"):
        tfl.retrain.distill(student, teacher)


def test_outputs_that_distillation_cannot_use_are_refused():
    def head(units, activation=None):
        return keras.Sequential([keras.Input((6,)), layers.Dense(units, activation)])

    with pytest.raises(ValueError, match="outputs of at least two classes"):
        tfl.retrain.distill(tfl.sparsify(head(1)), head(1))
    with pytest.raises(ValueError, match="`from_logits` must be `False`.*ends with a softmax"):
        tfl.retrain.distill(tfl.sparsify(head(3, "softmax")), head(3, "softmax"))
    with pytest.raises(ValueError, match="`from_logits` must be `False`"):
        tfl.retrain.recipe(tfl.sparsify(head(3, "softmax")), 10)


def test_teacher_has_no_say_after_its_end(make_data, compile_model):
    x, y = make_data("dense")
    student, teacher = tfl.sparsify(network(seed=1)), network(seed=2)
    compile_model(student, "sgd")
    expected = training_loss(student, x, y)
    teacher.layers[0].kernel.assign(np.full((6, 3), np.nan))
    student = tfl.sparsify(network(seed=1))
    tfl.retrain.distill(student, teacher).alpha.assign(0.0)
    assert training_loss(compile_model(student, "sgd"), x, y) == pytest.approx(expected)


def test_sparse_teacher_is_no_part_of_snapshots():
    student, teacher = tfl.sparsify(network(seed=1)), tfl.sparsify(network(seed=2), 0.5)
    before = tfl.Snapshot(student)
    tfl.retrain.distill(student, teacher)
    before.restore(student, kinds=("weights", "masks"))
    assert tfl.Snapshot(student).to_arrays().keys() == before.to_arrays().keys() | {"tweaks/0"}


def test_metrics_of_a_compiled_teacher_do_not_count(make_data, compile_model):
    x, y = make_data("dense")
    teacher = compile_model(network(seed=2), "sgd", metrics=["accuracy"])
    teacher.fit(x, y, verbose=0)
    student = tfl.sparsify(network(seed=1), 0.5)
    tfl.retrain.distill(student, teacher)
    compile_model(student, "sgd", metrics=["accuracy"]).fit(x, y, verbose=0)
    logits = student.predict(x, verbose=0)
    found = student.evaluate(x, y, verbose=0, return_dict=True)
    crossentropy = -np.mean(np.log(softmax(logits.astype("float64"))[np.arange(len(y)), y]))
    assert found["accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == y))
    assert found["loss"] == pytest.approx(crossentropy, rel=1e-4)
