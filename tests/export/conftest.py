"""Builds TFLite files by hand, runs them, and runs the export tasks in this process."""

import gc

import keras
import numpy as np
import pytest

from tf_lottery.export import child_process, conversion, micro, quantization, verification


@pytest.fixture(autouse=True)
def tasks_in_this_process(convert_in_this_process, monkeypatch):
    """Runs interpreters and quantizers here: a child process imports NumPy and LiteRT anew.

    `real_processes` switches it off.
    """
    for module in (micro, quantization, verification):
        monkeypatch.setattr(module, "ChildProcess", convert_in_this_process)


@pytest.fixture
def real_processes(tasks_in_this_process, monkeypatch):
    """Lets conversion, quantization and verification run in separate processes."""
    for module in (conversion, micro, quantization, verification):
        monkeypatch.setattr(module, "ChildProcess", child_process.ChildProcess)


@pytest.fixture(scope="session", autouse=True)
def keep_what_is_loaded():
    """Excludes all existing objects from garbage collection.

    The converter collects garbage in every call. That is fast in a separate process but slow in
    this one, which has also loaded Keras and the tests.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class FileBuilder:
    """Builds a TFLite file with one graph from the objects of the schema, without the converter."""

    def __init__(self):
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.graph = schema.SubGraphT(name=b"main", tensors=[], operators=[])
        self.model = schema.ModelT(
            version=3,
            description=b"test",
            operatorCodes=[],
            subgraphs=[self.graph],
            buffers=[schema.BufferT()],
        )

    def tensor(self, shape, values=None, dtype="float32", buffer=None):
        """Adds a tensor, or a constant if values are given, and returns its index."""
        if values is not None:
            dtype, buffer = values.dtype.name, len(self.model.buffers)
            data = np.frombuffer(np.ascontiguousarray(values).tobytes(), "uint8")
            self.model.buffers.append(self.schema.BufferT(data=data))
        self.graph.tensors.append(
            self.schema.TensorT(
                shape=list(shape),
                type=getattr(self.schema.TensorType, dtype.upper()),
                buffer=buffer or 0,
                name=f"tensor_{len(self.graph.tensors)}".encode(),
            )
        )
        return len(self.graph.tensors) - 1

    def constant(self, values):
        return self.tensor(values.shape, values)

    def operator(self, name, inputs, outputs, options=None, version=1):
        """Adds an operator. Its options are the fields of `<Name>Options` in the schema."""
        code = getattr(self.schema.BuiltinOperator, name)
        self.model.operatorCodes.append(
            self.schema.OperatorCodeT(
                deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version
            )
        )
        operator = self.schema.OperatorT(
            opcodeIndex=len(self.model.operatorCodes) - 1,
            inputs=list(inputs),
            outputs=list(outputs),
        )
        if options is not None:
            kind, fields = options
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(self.schema, f"{kind}T")(**fields)
        self.graph.operators.append(operator)

    def fully_connected(self, x, weights, bias=-1):
        """Adds a dense layer that reads tensors of the graph, and returns its output."""
        rows, units = self.graph.tensors[x].shape[0], self.graph.tensors[weights].shape[0]
        y = self.tensor((rows, units))
        options = "FullyConnectedOptions", {}
        self.operator("FULLY_CONNECTED", [x, weights, bias], [y], options)
        return y

    def convolution(self, x, weights, bias, output_shape):
        """Adds a convolution with 'valid' padding and stride 1 and returns its output."""
        y = self.tensor(output_shape)
        fields = {"padding": self.schema.Padding.VALID, "strideW": 1, "strideH": 1}
        fields |= {"dilationWFactor": 1, "dilationHFactor": 1}
        self.operator("CONV_2D", [x, weights, bias], [y], ("Conv2DOptions", fields))
        return y

    def content(self, inputs, outputs):
        """Returns the bytes of the file, with the signature that the quantizer needs."""
        from ai_edge_litert.tools import flatbuffer_utils

        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)

        def named(prefix, indices):
            return [
                self.schema.TensorMapT(name=f"{prefix}_{i}".encode(), tensorIndex=index)
                for i, index in enumerate(indices)
            ]

        self.model.signatureDefs = [
            self.schema.SignatureDefT(
                inputs=named("input", inputs),
                outputs=named("output", outputs),
                signatureKey=b"serving_default",
                subgraphIndex=0,
            )
        ]
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))


@pytest.fixture
def builder():
    return FileBuilder()


@pytest.fixture(scope="session")
def dense_file():
    """Returns a function that makes a file of dense layers from kernels (inputs, units)."""

    def make(*kernels, rows=1):
        built = FileBuilder()
        x = first = built.tensor((rows, kernels[0].shape[0]))
        for kernel in kernels:
            weights = built.constant(kernel.T.astype("float32"))
            x = built.fully_connected(x, weights, built.constant(biases(kernel.shape[1])))
        return built.content([first], [x])

    return make


@pytest.fixture(scope="session")
def convolution_file():
    """Returns a function: makes a file from kernels (height, width, inputs, filters)."""

    def make(*kernels, size=6):
        built = FileBuilder()
        x = first = built.tensor((1, size, size, kernels[0].shape[2]))
        for kernel in kernels:
            size += 1 - kernel.shape[0]
            weights = built.constant(kernel.transpose(3, 0, 1, 2).astype("float32"))
            shape = 1, size, size, kernel.shape[3]
            x = built.convolution(x, weights, built.constant(biases(shape[3])), shape)
        return built.content([first], [x])

    return make


def biases(size):
    return np.linspace(-0.1, 0.1, size, dtype="float32")


@pytest.fixture(scope="session")
def pruned():
    """Returns a function that makes a kernel in which only the largest blocks are not zero.

    A block has `block` consecutive inputs, which are the axis before the last.
    """

    def make(shape, sparsity, block=1, seed=0):
        rng = np.random.default_rng(seed)
        *rest, inputs, units = shape
        kernel = rng.normal(size=shape) / np.sqrt(inputs * (1 - sparsity) + 1)
        scores = rng.random((*rest, -(-inputs // block), units))
        limit = np.sort(scores, axis=None)[::-1][max(round((1 - sparsity) * scores.size) - 1, 0)]
        kept = np.repeat(scores >= limit, block, axis=-2)[..., :inputs, :]
        return (kernel * kept).astype("float32")

    return make


@pytest.fixture(scope="session")
def run_file():
    """Returns a function that runs the bytes of a file on inputs in this process."""

    def run(content, *arrays, delegates=True):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kind = "AUTO" if delegates else "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
        interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=getattr(OpResolverType, kind),
        )
        interpreter.allocate_tensors()
        for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]

    return run


@pytest.fixture(scope="session")
def quantize_file(convert_in_this_process):
    """Returns a function that quantizes the bytes of a float file with a mode."""

    def quantize(content, mode, steps=()):
        task = convert_in_this_process(child_process.TASKS / "quantize.py")
        return task.call("quantize", content=content, mode=mode, steps=list(steps))

    return quantize


@pytest.fixture(scope="session")
def convert_model():
    """Returns a function that converts a Keras model to its dense-stored float32 file."""

    def convert(model, sample_inputs=None):
        from tf_lottery.export.inputs import make_inputs

        inputs = make_inputs(model, sample_inputs, seed=0)
        expected = conversion.keras_outputs(model, inputs)
        return conversion.convert(model, inputs, list(expected))

    return convert


def pytest_collection_modifyitems(items):
    """Skips tests that convert a model if there is no converter."""
    if keras.backend.backend() != "tensorflow":
        reason = pytest.mark.skip(reason="TFLite's converter needs Keras on TensorFlow")
        for item in items:
            if "convert_model" in getattr(item, "fixturenames", ()):
                item.add_marker(reason)
