"""A training in the process of another library, whose environment has no `tf_lottery`.

`peer_trainings.py` starts the process and writes the files that are read here.
"""

import json
import pathlib

import numpy as np

# Difference of logits that float32 sums in another order may have.
TOLERANCE = 1e-4
EVALUATED = 1000


class Inputs:
    """The data, the initial weights and the order of examples that `tf_lottery` trains with.

    Args:
        path: The file that `peer_trainings.run_peer` wrote.
    """

    def __init__(self, path):
        with np.load(path) as arrays:
            found = dict(arrays)
        self.train, self.test = (found["x"], found["y"]), (found["test_x"], found["test_y"])
        self.order, self.logits = found["order"], found["logits"]
        self.weights = [found[f"weight_{i}"] for i in range(sum("weight_" in key for key in found))]

    def start(self, model):
        """Gives a network of the other library the initial weights, and checks that it is the same.

        Args:
            model: A model with weights of the same shapes in the same order.

        Raises:
            ValueError: If it computes something else with them.
        """
        model.set_weights(self.weights)
        found = model.predict(self.test[0][: len(self.logits)], verbose=0)
        difference = np.abs(found - self.logits).max()
        if difference > TOLERANCE:
            raise ValueError(f"The two networks differ by {difference} in their logits")

    def batches(self):
        """Returns a `tf.data.Dataset` of all batches of all epochs, in their order."""
        import tensorflow as tf

        x, y = (tf.constant(part) for part in self.train)
        order = tf.data.Dataset.from_tensor_slices(self.order)
        batches = order.map(lambda chosen: (tf.gather(x, chosen), tf.gather(y, chosen)))
        return batches.prefetch(1)


def serve(directory, train, packages):
    """Trains as `job.json` says, and writes results and versions into `peer.json`.

    Args:
        directory: The folder of the training.
        train: Function of `Inputs` and the entries of the job, which returns a dict for JSON.
        packages: Names of the packages whose versions matter.
    """
    import importlib.metadata

    directory = pathlib.Path(directory)
    job = json.loads((directory / "job.json").read_text())
    results = train(Inputs(directory / "inputs.npz"), **job)
    versions = {package: importlib.metadata.version(package) for package in packages}
    (directory / "peer.json").write_text(json.dumps({**results, "versions": versions}))


def outcome(model, kernels, inputs):
    """Returns the density of the kernels, and the accuracy on test examples.

    Args:
        model: A compiled model with the metric `"accuracy"`.
        kernels: List of its pruned variables.
        inputs: `Inputs`.
    """
    kept = sum(int(np.count_nonzero(kernel.numpy())) for kernel in kernels)
    tested = model.evaluate(*inputs.test, batch_size=EVALUATED, verbose=0, return_dict=True)
    size = sum(int(np.prod(kernel.shape)) for kernel in kernels)
    return {"density": kept / size, "test_accuracy": tested["accuracy"]}
