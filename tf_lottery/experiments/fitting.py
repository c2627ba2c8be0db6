"""How the experiments train and evaluate a classifier."""

import math

from tf_lottery.experiments.devices import evaluation_batch_size
from tf_lottery.experiments.progress import time_left


def fit_classifier(model, data, batches, epochs, callbacks, verbose):
    """Trains a compiled network, and evaluates it on the validation examples after every epoch.

    Args:
        model: A compiled `keras.Model`.
        data: `Data`.
        batches: Training batches with `follow_epoch`, as `Data.batches` returns them.
        epochs: Integer.
        callbacks: List of callbacks.
        verbose: As in `fit`.
    """
    model.fit(
        batches.for_fit(),
        epochs=epochs,
        # The batches are shuffled already, in an order that a resumed training repeats.
        shuffle=False,
        validation_data=data.validation,
        validation_batch_size=evaluation_batch_size(data.validation),
        callbacks=[batches.follow_epoch(), *callbacks, *time_left(verbose)],
        verbose=verbose,
    )


def evaluate_classifier(model, data):
    """Evaluates a compiled network on the test examples.

    Args:
        model: A compiled `keras.Model` with the metric `"accuracy"`.
        data: `Data`.

    Returns:
        Dict of `test_accuracy`, `test_loss` and, for text, `test_bits_per_character`.
    """
    size = evaluation_batch_size(data.test)
    test = model.evaluate(*data.test, batch_size=size, verbose=0, return_dict=True)
    results = {"test_accuracy": test["accuracy"], "test_loss": test["loss"]}
    if data.vocabulary:
        results["test_bits_per_character"] = test["loss"] / math.log(2)
    return results
