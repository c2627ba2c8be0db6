"""The bytes of exported files against their entropy and against the stock converter.

    KERAS_BACKEND=tensorflow python benchmarks/export_sizes.py

What it should show: sparse float32 files of at most 1.36 times the entropy floor (optimally coded
positions) at 80, 90 and 95% sparsity; at 98% at most half the bytes of the stock
converter's `EXPERIMENTAL_SPARSITY` where dense layers dominate; MobileNet-v1 at 90%,
untrained, with biases of zero, in at most 2.70 MB in float32 and 1.55 MB with 8-bit weights.
"""

import pathlib
import tempfile

import export_models
import keras
import numpy as np
import record

import tf_lottery as tfl

FAMILIES = ("lenet", "vgg", "mobilenet", "gru", "transformer")
CASES = [(family, sparsity, True) for family in FAMILIES for sparsity in (0.8, 0.9, 0.95, 0.98)]
CASES += [("mobilenet", 0.9, False)]
PRECISIONS = (None, "float16", "weight_int8", "dynamic_int8")


def main():
    """Exports every network in every precision and records the sizes."""
    rows = []
    for family, sparsity, trained in CASES:
        build = getattr(export_models, family)
        model = export_models.pruned(build, sparsity, trained=trained)
        samples = export_models.example_inputs(model, 2, seed=1)
        stock = stock_converter(model, samples)
        for precision in PRECISIONS:
            row = {"family": family, "sparsity": sparsity, "trained": trained}
            row |= export(model, samples, precision)
            row["stock"] = stock if precision is None else None
            rows.append(row)
            print(row, flush=True)
        record.write("export_sizes", {"seed": 0}, rows)


def export(model, samples, precision):
    """Returns the sizes of the file of one precision."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        try:
            # `export_grid.py` checks rounding; here only bytes count.
            tolerance = None if precision is None else 1.0
            report = tfl.export_tflite(
                model, path, samples, quantize=precision, tolerance=tolerance, runs=5
            )
        except tfl.ExportError as error:
            return {"quantize": precision, "refused": str(error).split(" Received: ")[0]}
    names = ("quantize", "storage", "num_bytes", "gzip_bytes", "floor_bytes")
    row = {name: getattr(report, name) for name in names}
    row["relative_difference"] = report.relative_difference
    return {**row, "dense_bytes": report.dense.num_bytes, "dense_gzip": report.dense.gzip_bytes}


def stock_converter(model, samples):
    """Returns the bytes of TensorFlow's own sparse file and how far it is from Keras."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    @tf.function(input_signature=[tf.TensorSpec((1, *samples.shape[1:]), name="x")])
    def serve(x):
        return {"y": model(x, training=False)}

    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", serve)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        content = converter.convert()
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner()
    found = np.concatenate([runner(x=x[None])["y"] for x in samples])
    expected = keras.ops.convert_to_numpy(model(samples, training=False))
    difference = float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
    return {"num_bytes": len(content), "relative_difference": difference}


if __name__ == "__main__":
    main()
