"""How far soft and hard gates differ in accuracy at the end of a round.

    KERAS_BACKEND=jax python benchmarks/soft_and_hard.py --data-dir DIR

LeNet-300-100 on MNIST as in `continuous_mnist.py`, at 20, 5 and 0.7% density, one seed. After every
round the 5,000 held-out examples are evaluated with the gates as they were trained, and with those
above 0 only.

What it should show: differences of less than 0.5 points, and less than 5% undecided gates, except
where the target holds gates open that would close by themselves.
"""

import argparse

import keras
import record

import tf_lottery as tfl
from tf_lottery.experiments import data, models

TARGETS = (0.2, 0.05, 0.007)
EPOCHS = 4


class SoftAccuracy(keras.callbacks.Callback):
    """Evaluates with soft gates after every epoch; comes before the search in the callbacks.

    Args:
        x: Array of inputs.
        y: Array of labels.
    """

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def on_epoch_end(self, epoch, logs=None):
        """Adds the accuracy to the logs."""
        found = self.model.evaluate(self.x, self.y, 1000, verbose=0, return_dict=True)
        logs["soft_accuracy"] = found["accuracy"]


def measure(arrays, target):
    """Returns a list of dicts, one for the end of every round."""
    keras.utils.set_random_seed(0)
    model = tfl.sparsify(models.lenet_300_100(seed=0), gate=tfl.SoftGate())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1.2e-3), loss, metrics=["accuracy"])
    search = tfl.callbacks.ContinuousSparsification(EPOCHS, target_density=target, mode="prune")
    model.fit(
        *arrays.train,
        batch_size=60,
        epochs=search.epochs,
        validation_data=arrays.validation,
        validation_batch_size=1000,
        verbose=0,
        callbacks=[SoftAccuracy(*arrays.validation), search],
    )
    last = [{key: values[-1] for key, values in r["logs"].items()} for r in search.history]
    return [
        {
            "density": logs["density"],
            "undecided": logs["undecided"],
            "soft_accuracy": logs["soft_accuracy"],
            "hard_accuracy": logs["val_accuracy"],
        }
        for logs in last
    ]


def main():
    """Measures and records all targets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    args = parser.parse_args()
    arrays = data.load("mnist", args.data_dir)
    results = {}
    for target in TARGETS:
        results[str(target)] = measure(arrays, target)
        print(target, results[str(target)], flush=True)
        record.write("soft_and_hard", {"epochs_per_round": EPOCHS, "seed": 0}, results)


if __name__ == "__main__":
    main()
