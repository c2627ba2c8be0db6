import json

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import EarlyStopIteration, IterativeMagnitudePruning


def train(model, data, callbacks, epochs, **kwargs):
    x, y = data
    return model.fit(
        x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks, **kwargs
    )


def test_evaluations_equal_those_of_keras(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()), metrics=["accuracy"])
    data = make_data()
    measure = EarlyStopIteration(data, frequency=6, batch_size=7)
    history = train(model, data, [measure], 3, validation_data=data).history
    assert [evaluation["iteration"] for evaluation in measure.runs[0]] == [6, 12, 18]
    for name in ("loss", "accuracy"):
        found = [evaluation[name] for evaluation in measure.runs[0]]
        assert found == pytest.approx(history[f"val_{name}"], rel=1e-5)


def test_metrics_of_training_do_not_notice(make_model, make_data, compile_model):
    histories = []
    for callbacks in ([], [EarlyStopIteration(make_data(), frequency=2)]):
        model = compile_model(tfl.sparsify(make_model()), metrics=["accuracy"])
        histories.append(train(model, make_data(), callbacks, 2).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-6)


def test_best_is_the_earliest_minimum_and_reaches_the_logs(make_model, make_data, compile_model):
    measure = EarlyStopIteration(make_data())
    measure.set_model(compile_model(tfl.sparsify(make_model())))
    measure.runs = [[{"iteration": 1, "loss": 2.0}, {"iteration": 2, "loss": 1.0}]]
    measure.runs[0].append({"iteration": 3, "loss": 1.0})
    logs = {}
    measure.on_epoch_end(0, logs)
    assert measure.best()["iteration"] == 2
    assert logs == {"early_stop_iteration": 2, "early_stop_loss": 1.0}


def test_every_level_is_a_run(make_model, make_data, compile_model):
    measure = EarlyStopIteration(make_data(), frequency=3)
    search = IterativeMagnitudePruning(2, 1, rewind_to_step=2, verbose=0)
    model = compile_model(tfl.sparsify(make_model()))
    train(model, make_data(), [measure, search], search.epochs)
    steps = [[evaluation["iteration"] for evaluation in run] for run in measure.runs]
    assert steps == [[3, 6], [3, 6], [3, 6]]
    assert all("early_stop_loss" in level["logs"] for level in search.history)


@pytest.mark.backend
@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on PyTorch has no `steps_per_execution`"
)
def test_batches_that_were_counted_but_not_made_start_no_run(make_model, make_data, compile_model):
    measure = EarlyStopIteration(make_data(), frequency=10)
    # Of the second execution of an epoch, Keras counts four batches where there are two.
    model = compile_model(tfl.sparsify(make_model()), run_eagerly=False, steps_per_execution=4)
    train(model, make_data(), [measure], 4)
    assert [[e["iteration"] for e in run] for run in measure.runs] == [[10, 22]]


def test_file_keeps_runs_and_forgets_what_is_trained_again(
    make_model, make_data, compile_model, tmp_path
):
    path = tmp_path / "runs.json"
    model = compile_model(tfl.sparsify(make_model()))
    measure = EarlyStopIteration(make_data(), frequency=3, path=path)
    train(model, make_data(), [measure], 2)
    assert json.loads(path.read_text()) == measure.runs
    again = EarlyStopIteration(make_data(), frequency=3, path=path)
    train(model, make_data(), [again], 3, initial_epoch=1)
    assert again.runs[0][:2] == measure.runs[0][:2]
    assert [evaluation["epoch"] for evaluation in again.runs[0]] == [0, 0, 1, 1, 2, 2]


def test_batches_of_an_iterable(make_model, make_data, compile_model):
    x, y = make_data()
    model = compile_model(tfl.sparsify(make_model()))
    batches, arrays = (
        EarlyStopIteration(data, frequency=3) for data in ([(x[:9], y[:9]), (x[9:], y[9:])], (x, y))
    )
    train(model, (x, y), [batches, arrays], 1)
    losses = [[evaluation["loss"] for evaluation in m.runs[0]] for m in (batches, arrays)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frequency": 0}, "`frequency`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"validation_data": (1, 2, 3)}, "`validation_data`"),
        ({"validation_data": iter([(1, 2)])}, "`validation_data`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, make_data):
    with pytest.raises(ValueError, match=f"{message} must .*Received"):
        EarlyStopIteration(**{"validation_data": make_data(), **arguments})


def test_no_examples(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()))
    with pytest.raises(ValueError, match="`validation_data` must have at least one example"):
        train(model, make_data(), [EarlyStopIteration([], frequency=1)], 1)
