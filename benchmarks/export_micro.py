"""Runs files for microcontrollers in TFLite Micro's interpreter and compares them with LiteRT.

    KERAS_BACKEND=tensorflow python benchmarks/export_micro.py

LeNet-300-100, a small convolutional network, and the four networks of MLPerf Tiny. Needs `pip
install tflite-micro`. What it should show: on every file of `runtime="micro"` TFLite Micro's
interpreter agrees with LiteRT's reference kernels to one step, and the files get smaller by fewer
channels, not by zeros. The outputs of the autoencoder alone are up to three steps apart: LiteRT's
reference kernels (and XNNPACK's) round the scaled sum of a layer once, TFLite Micro's (and LiteRT's
optimized ones) twice, to 32 bits and then to a step. An activation near a half differs by one step
then, which the layers after that of eight units amplify, in all outputs of the example.
"""

import argparse
import pathlib
import tempfile

import export_models
import keras
import record
from keras import layers

import tf_lottery as tfl
from tf_lottery.experiments import models
from tf_lottery.export import micro

SPARSITIES, PATTERNS = (0.0, 0.5, 0.9), ("unstructured", "16x1", "channel")
PIXELS = (28, 28, 1)


def cnn():
    """Two convolutions and a dense layer on 28x28 images."""
    x = inputs = keras.Input(PIXELS)
    for filters in (16, 32):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="cnn")


FAMILIES = {
    "lenet": export_models.lenet,
    "cnn": cnn,
    "ds_cnn": models.mlperf_tiny_ds_cnn,
    "resnet_8": models.mlperf_tiny_resnet_8,
    "mobilenet_0.25": models.mlperf_tiny_mobilenet_v1,
    "autoencoder": models.mlperf_tiny_autoencoder,
}


def main():
    """Exports the grid and records bytes, memory and agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    args = parser.parse_args()
    if not micro.is_installed():
        parser.error("`tflite-micro` must be installed: `pip install tflite-micro`")
    rows = []
    export_models.keep_processes()
    with tempfile.TemporaryDirectory() as folder:
        for family in args.families:
            for sparsity in SPARSITIES:
                for pattern in PATTERNS if sparsity else PATTERNS[:1]:
                    path = pathlib.Path(folder) / "model.tflite"
                    rows.append(export(family, sparsity, pattern, path))
                    print(rows[-1], flush=True)
    record.write("export_micro", {"seed": 0, "families": args.families}, rows)


def export(family, sparsity, pattern, path):
    """Returns a row of the table: bytes, memory and the difference from Keras of one file."""
    row = {"family": family, "sparsity": sparsity, "pattern": pattern}
    network = export_models.pruned(FAMILIES[family], sparsity, pattern)
    samples = export_models.example_inputs(network, 8, seed=1)
    if pattern == "channel":
        network, _ = tfl.compact(network)
    try:
        report = tfl.export_tflite(
            network, path, runtime="micro", representative_data=samples, tolerance=1.0, runs=3
        )
    except tfl.ExportError as error:
        return {**row, "refused": str(error).split(" Received: ")[0]}
    return {
        **row,
        "num_bytes": report.num_bytes,
        "arena_bytes": report.arena_bytes,
        "micro_steps": report.micro_steps,
        "relative_difference": report.relative_difference,
    }


if __name__ == "__main__":
    main()
