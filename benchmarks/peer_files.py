"""Makes the files of one network that the comparison with other exporters runs."""

import inspect
import pathlib

import keras
import numpy as np

import tf_lottery as tfl

# Of all exports of ours: differences are recorded here, not judged.
TOLERANCE = 1.0


def ours(model, samples, folder, name, **options):
    """Writes a file of `tfl.export_tflite` and returns its path."""
    path = pathlib.Path(folder) / f"{name}.tflite"
    tfl.export_tflite(model, path, samples, tolerance=TOLERANCE, runs=20, **options)
    return path


def stock(model, samples, folder, name, *optimizations):
    """Writes a file of TensorFlow's converter and returns its path.

    Args:
        model: A `keras.Model`.
        samples: Array of inputs.
        folder: Path.
        name: String.
        *optimizations: Names of `tf.lite.Optimize`.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, *samples.shape[1:]), name="x")])
    def serve(x):
        return {"y": model(x, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve)
    saved = pathlib.Path(folder) / f"{name}_saved"
    archive.write_out(str(saved), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    return _convert(converter, folder, name, optimizations)


def tfmot(model, folder, name):
    """Writes a file as TFMOT's guide does: prune, strip, convert; and returns its path.

    The network is built again in `tf_keras`, layer by layer, with the same weights.
    """
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras

    if any(isinstance(layer, keras.layers.MultiHeadAttention) for layer in model.layers):
        raise ValueError("TFMOT prunes no attention")
    inner = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]
    twins = [_twin(layer, tf_keras) for layer in inner]
    inputs = tf_keras.Input(model.input_shape[1:], batch_size=1)
    network = tf_keras.Sequential([inputs, *twins])
    network.set_weights(model.get_weights())
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.9, begin_step=0)
    prune, strip = tfmot.sparsity.keras.prune_low_magnitude, tfmot.sparsity.keras.strip_pruning
    network = strip(prune(network, pruning_schedule=schedule))
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    return _convert(converter, folder, name, ["EXPERIMENTAL_SPARSITY"])


def _twin(layer, tf_keras):
    """Returns the layer of `tf_keras` that computes the same, untrained."""
    twin = getattr(tf_keras.layers, type(layer).__name__)
    known = inspect.signature(twin.__init__).parameters
    config = {
        key: value
        for key, value in layer.get_config().items()
        if key in known and not key.endswith(("initializer", "regularizer", "constraint"))
    }
    return twin(**config)


def _convert(converter, folder, name, optimizations):
    import tensorflow as tf

    converter.optimizations = [getattr(tf.lite.Optimize, key) for key in optimizations]
    path = pathlib.Path(folder) / f"{name}.tflite"
    path.write_bytes(converter.convert())
    return path


def onnx(model, samples, folder, name):
    """Writes a file of Keras' export to ONNX, for one example, and returns its path."""
    return _export(model, samples, pathlib.Path(folder) / f"{name}.onnx", "onnx")


def onnx_int8(path):
    """Writes the file of ONNX Runtime's dynamic quantization and returns its path."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    written = path.with_name(f"{path.stem}_int8.onnx")
    quantize_dynamic(path, written, weight_type=QuantType.QInt8)
    return written


def openvino(model, samples, folder, name):
    """Writes a file of Keras' export to OpenVINO, for one example, and returns its path."""
    return _export(model, samples, pathlib.Path(folder) / f"{name}.xml", "openvino")


def _export(model, samples, path, form):
    signature = [keras.InputSpec(shape=(1, *samples.shape[1:]), dtype="float32", name="x")]
    model.export(str(path), format=form, input_signature=signature, verbose=False)
    return path


def num_bytes(path):
    """Returns the bytes of a file, with those of the weights that OpenVINO stores beside it."""
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else None
    return path.stat().st_size + (weights.stat().st_size if weights else 0)


def run_litert(path):
    """Returns a function that runs a TFLite file on one example."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(x):
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return run


def run_onnx(path):
    """Returns a function that runs an ONNX file on one example."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def run_openvino(path, **options):
    """Returns a function that runs a file of OpenVINO, or a TFLite file, on one example."""
    import openvino

    limits = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", {**limits, **options})
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(x):
        request.infer({0: x}, share_inputs=True)
        return np.array(request.get_tensor(output).data)

    return run
