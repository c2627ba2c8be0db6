"""Runs the examples in docstrings, and checks that everything public has one."""

import ast
import doctest
import functools
import importlib
import inspect
import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl

ROOT = pathlib.Path(tfl.__file__).parents[1]
FILES = [file for name in ("tf_lottery", "tf_lottery_cli") for file in (ROOT / name).rglob("*.py")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

LENETS = "trains LeNet-300-100 again and again; tests/experiments has smaller networks"
LARGE = "builds a network for ImageNet; tests/experiments builds smaller ones"
THOROUGH = {
    "tf_lottery.experiments.demo.run_demo": LENETS,
    "tf_lottery.experiments.lottery.run_lottery": LENETS,
    "tf_lottery.experiments.models.imagenet_resnet.resnet_18": LARGE,
    "tf_lottery.experiments.models.imagenet_resnet.resnet_34": LARGE,
    "tf_lottery.experiments.models.imagenet_resnet.resnet_50": LARGE,
    "tf_lottery.experiments.models.mobilenet.mobilenet_v2": LARGE,
    "tf_lottery.experiments.models.vgg.vgg_19": LARGE,
    "tf_lottery.experiments.lottery.run_rigl": LENETS,
    "tf_lottery.experiments.retraining.run_retraining": LENETS,
    "tf_lottery.experiments.stability.run_stability": LENETS,
    "tf_lottery.experiments.sweeps.sweep.run_sweep": LENETS,
    "tf_lottery.experiments.training.run_training": LENETS,
}
# These import TFMOT, which changes the process; tests/interop/test_tfmot.py runs them.
BESIDE_TFMOT = (
    "tf_lottery.interop.tfmot.pruning_callback",
    "tf_lottery.interop.tfmot.ticket",
)
# Classes that other functions return, as their examples show, and base classes.
NO_EXAMPLE = {
    "ChannelGroups": "of `channel_groups`",
    "CompactionReport": "of `compact`",
    "CompressedFile": "part of a `Compression`",
    "Compression": "of `compress`",
    "Connectivity": "of `interpolate`",
    "ExportError": "raised",
    "ExportReport": "of `export_tflite`",
    "FileReport": "of `inspect_tflite`",
    "KernelSelection": "of `find_kernels`",
    "LayerRow": "row of a `CompactionReport`",
    "OperatorRow": "row of a `SparseInferenceReport`",
    "RepairReport": "of `repair`",
    "RescalingReport": "of `rescaled_initialization`",
    "SparseInferenceReport": "of `sparse_inference_report`",
    "Stability": "of `stability`",
    "StoredFile": "part of an `ExportReport`",
    "Summary": "of `summary`",
    "TensorRow": "row of a `FileReport`",
    "TicketMatch": "of `Ticket.apply`",
    "TicketSearch": "base of `IterativeMagnitudePruning` and `ContinuousSparsification`",
}
# Packages that only the library itself uses.
INTERNAL = ("files",)
# These write TFLite files.
ON_TENSORFLOW = (
    "tf_lottery.compression",
    "tf_lottery.experiments.demo",
    "tf_lottery.export.inspection",
    "tf_lottery.export.sparse_flatbuffer",
    "tf_lottery.export.tflite",
    "tf_lottery.export.xnnpack.sparse_inference",
)
# These use functions of a backend directly.
ON_EVERY_BACKEND = ("tf_lottery.layers._functional_call", "tf_lottery.layers.gradients")


def module_name(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def find_examples(file):
    """Yields the examples of a file without importing it, so that collecting tests is fast."""

    def visit(node, name):
        docstring = ast.get_docstring(node, clean=False)
        if docstring and ">>>" in docstring:
            line = node.body[0].lineno - 1
            yield doctest.DocTestParser().get_doctest(docstring, {}, name, str(file), line)
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                yield from visit(child, f"{name}.{child.name}")

    yield from visit(ast.parse(file.read_text()), module_name(file))


EXAMPLES = [(file, example) for file in sorted(FILES) for example in find_examples(file)]


def marks(name):
    if name in BESIDE_TFMOT:
        # A string, which pytest evaluates after all files are imported.
        alone = "'tensorflow_model_optimization' not in sys.modules"
        yield pytest.mark.skipif(alone, reason="TFMOT changes the process; see test_tfmot.py")
    if name in THOROUGH:
        yield pytest.mark.thorough(THOROUGH[name])
    if name.startswith(ON_EVERY_BACKEND):
        yield pytest.mark.backend(every_case=True)
    if name.startswith(ON_TENSORFLOW):
        other = keras.backend.backend() != "tensorflow"
        yield pytest.mark.skipif(other, reason="only TensorFlow exports")


class Names:
    """The names that examples may use: small objects, created when an example uses them."""

    keras, np, ops, tfl = keras, np, ops, tfl

    def __init__(self):
        rng = np.random.default_rng(1)
        self.x = rng.normal(size=(24, 8)).astype("float32")
        self.y = (self.x[:, 0] > 0).astype("int32")
        self.x_val, self.y_val = self.x_test, self.y_test = self.x[:12], self.y[:12]
        self.images = rng.normal(size=(8, 6, 6, 3)).astype("float32")
        self.labels = self.y[:8]

    @property
    def loss(self):
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @functools.cached_property
    def model(self):
        """A model of 80 and 20 weights, so that many sparsities are met exactly."""
        return self.make_model()

    @functools.cached_property
    def dense(self):
        return self.compiled(self.make_model())

    @functools.cached_property
    def sparse(self):
        return self.compiled(tfl.sparsify(self.make_model(), sparsity=0.9))

    @functools.cached_property
    def other_sparse(self):
        return self.compiled(tfl.sparsify(self.make_model()))

    @functools.cached_property
    def ticket(self):
        """A ticket with the values of pruned weights, like the tickets of searches."""
        model = self.make_model()
        start = tfl.Snapshot(model)
        return tfl.Ticket.from_model(tfl.sparsify(model, sparsity=0.9), weights=start.weights)

    @property
    def units(self):
        """A group of two channels."""
        every = np.arange(2)[:, None]
        member = tfl.sparsity.groups.Member
        return tfl.sparsity.groups.Group(
            "units",
            2,
            kernels=(member("kernel", 1, every),),
            companions=(member("bias", 0, every), member("gamma", 0, every)),
            readers=(member("next", 0, every),),
        )

    @functools.cached_property
    def convolutional(self):
        layers = [
            keras.Input((6, 6, 3)),
            *(
                keras.layers.Conv2D(4, 3, padding="same", activation="relu", name=name)
                for name in ("stem", "conv_1", "conv_2")
            ),
            keras.layers.BatchNormalization(name="normalization"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(2, name="output"),
        ]
        return self.compiled(tfl.sparsify(keras.Sequential(layers, name="small"), sparsity=0.5))

    def make_model(self):
        layers = [
            keras.Input((8,)),
            keras.layers.Dense(10, "relu", name="hidden"),
            keras.layers.Dense(2, name="output"),
        ]
        return keras.Sequential(layers, name="net")

    def compiled(self, model):
        model.compile("adam", self.loss, metrics=["accuracy"])
        return model


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The names for examples, in an empty working folder, with eager training."""
    monkeypatch.chdir(tmp_path)
    run_eagerly(True)
    yield Names()
    run_eagerly(False)


def run_eagerly(value):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(value)


def names_in(example):
    code = ast.parse("".join(line.source for line in example.examples))
    return {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}


# A warning fails an example, except that of soft gates, which need more steps.
@pytest.mark.filterwarnings(
    "error::UserWarning", "ignore:Even though the `tf.config", "ignore:.* gates were undecided"
)
@pytest.mark.parametrize(
    ("file", "example"),
    [pytest.param(*pair, id=pair[1].name, marks=list(marks(pair[1].name))) for pair in EXAMPLES],
)
def test_example(file, example, names):
    given = {name: getattr(names, name) for name in names_in(example) if hasattr(names, name)}
    example.globs = {**given, **vars(importlib.import_module(module_name(file)))}
    output = []
    failed, tried = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(
        example, out=output.append, clear_globs=False
    )
    assert not failed, "".join(output)
    assert tried == len(example.examples)


def test_all_lines_with_a_prompt_are_examples():
    prompts = sum(len(re.findall(r"^ *>>> ", file.read_text(), re.MULTILINE)) for file in FILES)
    assert sum(len(example.examples) for _, example in EXAMPLES) == prompts > 250
    assert {*THOROUGH, *BESIDE_TFMOT} < {example.name for _, example in EXAMPLES}


def public_objects():
    """Returns a dict of names to the functions and classes that the packages export."""
    packages = [file for file in FILES if file.name == "__init__.py"]
    public = [f for f in packages if f.parent.name[0] != "_" and f.parent.name not in INTERNAL]
    modules = [importlib.import_module(module_name(file)) for file in public]
    found = [pair for module in modules for pair in vars(module).items() if pair[0][0] != "_"]
    return {
        name: value
        for name, value in found
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("tf_lottery.")
    }


def test_everything_public_has_an_example():
    names = "\n".join(example.name for _, example in EXAMPLES)
    missing = {
        name
        for name, value in public_objects().items()
        if not re.search(rf"^{re.escape(value.__module__)}\.{value.__qualname__}\b", names, re.M)
    }
    assert missing == set(NO_EXAMPLE)
    assert all(public_objects()[name].__doc__ for name in missing)
