"""TFLite files built by hand, ways to run them, and tasks that need no process of their own."""

import gc

import keras
import numpy as np
import pytest

from tf_lottery.export import child_process, conversion, quantization, verification


@pytest.fixture(autouse=True)
def tasks_in_this_process(convert_in_this_process, monkeypatch):
    """Interpreters and quantizers run here too; a child imports NumPy and LiteRT each time.

    `real_processes` switches it off.
    """
    for module in (quantization, verification):
        monkeypatch.setattr(module, "ChildProcess", convert_in_this_process)


@pytest.fixture
def real_processes(tasks_in_this_process, monkeypatch):
    """Lets conversion, quantization and verification run in processes of their own."""
    for module in (conversion, quantization, verification):
        monkeypatch.setattr(module, "ChildProcess", child_process.ChildProcess)


@pytest.fixture(scope="session", autouse=True)
def keep_what_is_loaded():
    """Hides all objects that are there from the garbage collection.

    The converter collects in every call. Its own process has little to go through, but this one
    holds Keras and the tests too.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class FileBuilder:
    """A TFLite file with one graph, made of the schema's objects without the converter."""

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
        """Adds a tensor, a constant if it has values, and returns its index."""
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
        """Adds an operator; its options are fields of the schema's `<Name>Options`."""
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
        """Adds a dense layer over tensors of the graph and returns its output."""
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
        """Returns the bytes of the file, with a signature as the quantizer needs it."""
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
    """Function of kernels as Keras has them, (inputs, units), to a file of dense layers."""

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
    """Function of kernels (height, width, inputs, filters) to a file of convolutions."""

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
    """Function of a shape and a sparsity to a kernel, zero without the largest groups.

    Groups of `block` consecutive inputs, the axis before the last, are zero or not.
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
    """Function of the bytes of a file and its inputs to its outputs, in this process."""

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
    """Function of the bytes of a float file and a mode to those of the quantized file."""

    def quantize(content, mode, steps=()):
        task = convert_in_this_process(child_process.TASKS / "quantize.py")
        return task.call("quantize", content=content, mode=mode, steps=list(steps))

    return quantize


@pytest.fixture(scope="session")
def convert_model():
    """Function of a Keras model to its dense-stored float32 file."""

    def convert(model, sample_inputs=None):
        from tf_lottery.export.inputs import make_inputs

        inputs = make_inputs(model, sample_inputs, seed=0)
        expected = conversion.keras_outputs(model, inputs)
        return conversion.convert(model, inputs, list(expected))

    return convert


def pytest_collection_modifyitems(items):
    """Skips tests that convert a model where no converter is."""
    if keras.backend.backend() != "tensorflow":
        reason = pytest.mark.skip(reason="TFLite's converter needs Keras on TensorFlow")
        for item in items:
            if "convert_model" in getattr(item, "fixturenames", ()):
                item.add_marker(reason)
