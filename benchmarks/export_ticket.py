"""The MNIST ticket at 10.8% density, trained and exported.

    KERAS_BACKEND=tensorflow python benchmarks/export_ticket.py --data-dir DIR \\
        --ticket runs/lottery_mnist/replicate_0/ticket_10.npz

`lottery_mnist.py` finds the ticket; this script trains it for 12,000 steps and exports it.

What it should show: a file of at most 0.25 times the bytes of the dense-stored one, whose
probabilities differ from Keras by less than 1e-5. The logits reach 80, where the resolution of
float32 is about that, so their difference is also given relative to the largest one.
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
import record

import tf_lottery as tfl
from tf_lottery.experiments import data
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.lottery import LotterySettings, build_model

EPOCHS, STEPS_PER_EPOCH = 12, 1000


def main():
    """Trains, exports and records."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--ticket", default="runs/lottery_mnist/replicate_0/ticket_10.npz")
    args = parser.parse_args()
    mnist = data.load("mnist", args.data_dir)
    settings = LotterySettings()
    model = build_model(mnist, settings, seed=0)
    ticket = tfl.Ticket.load(args.ticket)
    match = ticket.apply(model)
    if match.unmatched:
        raise SystemExit(f"the ticket does not fit: {match.unmatched}")
    batches = ShuffledBatches(*mnist.train, settings.batch_size, STEPS_PER_EPOCH)
    model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[batches.follow_epoch()])
    accuracy = model.evaluate(*mnist.test, verbose=0, return_dict=True)["accuracy"]
    samples = mnist.test[0][:500]
    logits = tfl.strip(model)
    probabilities = keras.Sequential([logits, keras.layers.Softmax()], name="probabilities")
    results = {"density": model.density, "test_accuracy": accuracy}
    for name, network in (("logits", logits), ("probabilities", probabilities)):
        scale = float(np.abs(network.predict(samples, verbose=0)).max())
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"{name}.tflite"
            report = tfl.export_tflite(network, path, samples, runs=500)
        results[name] = {
            **report.to_dict(),
            "path": path.name,
            "relative_difference": report.max_difference / scale,
        }
    record.write(
        "export_ticket", {"level": ticket.level, "steps": EPOCHS * STEPS_PER_EPOCH}, results
    )
    print(results)


if __name__ == "__main__":
    main()
