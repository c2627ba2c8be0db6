"""`tfl.compress` on three tasks: does the chosen file keep its promise on data it never saw?

LeNet-300-100 on MNIST, a convolutional network on Fashion-MNIST, and a gesture recogniser for a
watch (Conv1D, the file of the package `seglearn`; its wearers of validation and test data are not
among those of the training data). `compress` sees training and validation data; the test data
judge the file that it recommends.

    python benchmarks/compress.py mnist --data DIR_OF_TFDS
    python benchmarks/compress.py fashion_mnist --data /usr/share/datasets/fashion-mnist
    python benchmarks/compress.py gestures --data seglearn/data/watch_dataset.npy

What it should show: the file meets the budget, and its accuracy on the test data is at most
`max_drop` and one standard error below that of the dense network.
"""

import argparse
import dataclasses
import math
import pathlib
import time

import keras
import record

import tf_lottery as tfl
from tf_lottery.compression.examples import read_examples
from tf_lottery.compression.files import file_accuracy
from tf_lottery.compression.measures import Accuracy
from tf_lottery.experiments import data
from tf_lottery.experiments.data.files import fashion_mnist, gestures
from tf_lottery.experiments.models import conv_4, lenet_300_100
from tf_lottery.experiments.models.blocks import layer_seeds


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, how it is trained, and what is asked of its file."""

    load: object
    build: object
    epochs: int
    budget: dict
    max_drop: float
    finetune: int
    batch_size: int = 60
    learning_rate: float = 1.2e-3


def conv_1d(input_shape, num_classes, seed):
    """Three convolutions in time of 32, 64 and 96 channels, a dense layer: 43,367 parameters."""
    seeds = layer_seeds(seed)
    layers = [keras.Input(input_shape)]
    for width, size, stride in ((32, 5, 2), (64, 5, 2), (96, 5, 2)):
        init = keras.initializers.HeNormal(seed=next(seeds))
        layers += [
            keras.layers.Conv1D(width, size, stride, use_bias=False, kernel_initializer=init),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    init = keras.initializers.GlorotUniform(seed=next(seeds))
    pooled = keras.layers.GlobalAveragePooling1D()
    dense = keras.layers.Dense(num_classes, kernel_initializer=init)
    return keras.Sequential([*layers, pooled, keras.layers.Dropout(0.3, seed=seed), dense])


def small_conv(input_shape, num_classes, seed):
    return conv_4(input_shape, num_classes, seed, width=0.25, norms=True)


CASES = {
    "mnist": Case(
        lambda path: data.load("mnist", path), lenet_300_100, 5, {"bytes": 100_000}, 0.01, 0
    ),
    "fashion_mnist": Case(fashion_mnist, small_conv, 3, {"bytes": 50_000}, 0.01, 1, 128),
    "gestures": Case(gestures, conv_1d, 15, {"bytes": 20_000}, 0.02, 10, 32, 1e-3),
}


def train(case, found, seed):
    """Returns the trained dense network."""
    keras.utils.set_random_seed(seed)
    model = case.build(found.input_shape, found.num_classes, seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(case.learning_rate)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    model.fit(*found.train, batch_size=case.batch_size, epochs=case.epochs, verbose=0)
    return model


def judge(result, model, found):
    """Returns the accuracies of the model and of the chosen file on the test data."""
    examples = read_examples("test", found.test, model)
    outputs = model.predict(found.test[0], batch_size=256, verbose=0)
    accuracy = Accuracy(model, found.test[1], outputs)
    dense = accuracy(outputs)
    judged = {"dense": dense, "examples": len(examples)}
    if result.path is not None:
        chosen = file_accuracy(result.path, examples, accuracy)
        # Of the difference of two accuracies on the same examples, at most.
        error = math.sqrt(dense * (1 - dense) / len(examples))
        promise = dense - result.max_drop - error
        judged |= {"chosen": chosen, "standard_error": error, "keeps_promise": chosen >= promise}
    return judged


def main():
    """Compresses one network and records the front and the judgement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=CASES)
    parser.add_argument("--data", help="folder or file of the data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/compress", help="folder for the files")
    args = parser.parse_args()
    case = CASES[args.task]
    found = case.load(args.data)
    model = train(case, found, args.seed)
    folder = pathlib.Path(args.out) / f"{args.task}_{args.seed}"
    start = time.perf_counter()
    result = tfl.compress(
        model,
        found.train,
        found.validation,
        budget=case.budget,
        max_drop=case.max_drop,
        finetune=case.finetune,
        batch_size=case.batch_size,
        directory=folder,
        seed=args.seed,
    )
    seconds = time.perf_counter() - start
    print(result, f"{seconds:.0f} seconds")
    result.plot(folder / "front.png")
    judged = judge(result, model, found)
    print(judged)
    settings = {k: v for k, v in dataclasses.asdict(case).items() if k not in ("load", "build")}
    results = {"seconds": seconds, "parameters": model.count_params(), "test": judged}
    settings |= {"seed": args.seed, "sizes": [len(part[1]) for part in _parts(found)]}
    record.write(f"compress_{args.task}", settings, {**results, **_plain(result)})


def _parts(found):
    return found.train, found.validation, found.test


def _plain(result):
    """Returns the result without what differs from machine to machine."""
    return {k: v for k, v in result.to_dict().items() if k not in ("directory", "path")}


if __name__ == "__main__":
    main()
