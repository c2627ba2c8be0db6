"""The operators of a TFLite file as XNNPACK sees them.

The delegate unpacks constants before it runs and merges zero padding into the convolution that
follows it. It runs every connected part of the graph that it supports as one network.
"""

import collections
import dataclasses
import math

import numpy as np

from tf_lottery.export import flatbuffer
from tf_lottery.export.xnnpack.rules import DELEGATED, padding

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
ELEMENTWISE = ("ADD", "MUL", "SUB", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")
TYPES = ("float32", "int8", "uint8")


@dataclasses.dataclass(frozen=True)
class Node:
    """An operator, with the properties that decide whether it can compute with channels first.

    Args:
        index: Integer, the operator's index in the file.
        kind: String, its name in the schema, for example `"CONV_2D"`.
        name: String, the name of its output in the file.
        inputs: Tuple of the indices of its input tensors that are not constants.
        outputs: Tuple of the indices of its output tensors.
        input_shapes: Tuple of the shapes of all its operands, without parameters such as axes.
        output_shape: Tuple of integers.
        options: The schema's options of the operator.
        dtypes: Set of strings, the data types of its operands and outputs.
        padding: Pairs of integers for rows and columns, or `None`; see `padding`.
        weights_shape: Tuple of integers, empty without constant weights.
        num_zeros: Integer, the number of zeros in the weights.
        has_sparse_weights: Boolean, whether the file stores the weights without zeros.
        num_constants: Integer, how many operands are constants.
        axes: Set of integers, the axes that a mean or sum reduces.
        readers: Tuple of the kinds of the operators that read its outputs.
        part: Integer, the connected part of the graph, -1 if XNNPACK does not run it.
    """

    index: int
    kind: str
    name: str
    inputs: tuple
    outputs: tuple
    input_shapes: tuple
    output_shape: tuple
    options: object
    dtypes: frozenset
    padding: tuple | None
    weights_shape: tuple
    num_zeros: int
    has_sparse_weights: bool
    num_constants: int
    axes: frozenset
    readers: tuple
    part: int

    @property
    def input_shape(self):
        """Tuple of integers, the shape of the first operand."""
        return self.input_shapes[0] if self.input_shapes else ()


def read_nodes(model):
    """Returns the operators and the output tensors of a file's main graph.

    Args:
        model: A `ModelT`.

    Returns:
        Tuple of a list of `Node` in the order of the file and a set of integers.
    """
    reader = _Reader(model)
    nodes = [reader.node(i, op) for i, op in enumerate(reader.graph.operators)]
    return [node for node in nodes if node is not None], set(reader.graph.outputs)


class _Reader:
    def __init__(self, model):
        self.model, self.graph = model, model.subgraphs[0]
        operators = self.graph.operators
        self.kinds = [flatbuffer.operator_name(model, op) for op in operators]
        self.uses = collections.defaultdict(list)
        self.producers = {}
        for index, operator in enumerate(operators):
            for tensor in operator.inputs:
                self.uses[tensor].append(index)
            self.producers.update(dict.fromkeys(operator.outputs, index))
        self.parts = self._parts()

    def node(self, index, operator):
        kind, source = self.kinds[index], operator.inputs[0] if len(operator.inputs) else -1
        if self._is_unpacking(index) or self._merged_padding(index) is not None:
            return None
        pad, operands = ((0, 0), (0, 0)), self._operands(index)
        before = self.producers.get(source)
        if kind in CONVOLUTIONS and before is not None and self._merged_padding(before) == index:
            pad, source = self._pad(before), self.graph.operators[before].inputs[0]
            operands = [source, *operands[1:]]
        tensors = self.graph.tensors
        weights = operands[1] if kind in flatbuffer.WEIGHT_OPERATORS else None
        shape = () if weights is None else self._shape(weights)
        return Node(
            index=index,
            kind=kind,
            name=_short(tensors[operator.outputs[0]].name) if len(operator.outputs) else "",
            inputs=tuple(t for t in operands if not self._is_constant(t)),
            outputs=tuple(operator.outputs),
            input_shapes=tuple(map(self._shape, operands)),
            output_shape=self._shape(operator.outputs[0]) if len(operator.outputs) else (),
            options=operator.builtinOptions,
            dtypes=frozenset(
                flatbuffer.dtype_name(tensors[t]) for t in (*operands[:2], *operator.outputs)
            ),
            padding=self._padding(kind, operator, shape, pad),
            weights_shape=shape,
            num_zeros=0 if weights is None else self._zeros(weights),
            has_sparse_weights=weights is not None and self._is_unpacked_sparse(weights),
            num_constants=sum(map(self._is_constant, operands)),
            axes=self._axes(kind, operator),
            readers=tuple(self.kinds[i] for t in operator.outputs for i in self.uses[t]),
            part=self.parts[index],
        )

    def _operands(self, index):
        """Returns the tensors that an operator computes with, without its parameters."""
        inputs = [t for t in self.graph.operators[index].inputs if t >= 0]
        if self.kinds[index] in (*flatbuffer.WEIGHT_OPERATORS, *ELEMENTWISE):
            return inputs
        return [t for t in inputs if not self._is_constant(t)]

    def _padding(self, kind, operator, shape, pad):
        if kind not in CONVOLUTIONS or len(shape) != 4:
            return pad
        return padding(operator.builtinOptions, shape[1:3], pad)

    def _axes(self, kind, operator):
        if kind not in ("MEAN", "SUM"):
            return frozenset()
        axes = flatbuffer.stored_values(self.model, self.graph.tensors[operator.inputs[1]])
        rank = len(self._shape(operator.inputs[0]))
        return frozenset() if axes is None or not rank else frozenset(int(a) % rank for a in axes)

    def _shape(self, tensor):
        shape = self.graph.tensors[tensor].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def _source(self, tensor):
        """Returns the stored tensor from which a tensor is unpacked at load."""
        # A constant passes at most one operator of each kind; more are in a circle.
        for _ in flatbuffer.UNPACKING:
            if self._kind_of_producer(tensor) in flatbuffer.UNPACKING:
                tensor = self.graph.operators[self.producers[tensor]].inputs[0]
        return tensor

    def _kind_of_producer(self, tensor):
        return self.kinds[self.producers[tensor]] if tensor in self.producers else ""

    def _is_constant(self, tensor):
        data = self.model.buffers[self.graph.tensors[self._source(tensor)].buffer].data
        return data is not None and len(data) > 0

    def _is_unpacked_sparse(self, tensor):
        source = self._source(tensor)
        return source != tensor and self.graph.tensors[source].sparsity is not None

    def _zeros(self, tensor):
        values = flatbuffer.stored_values(self.model, self.graph.tensors[self._source(tensor)])
        if values is None:
            return 0
        return math.prod(self._shape(tensor)) - int(np.count_nonzero(values))

    def _is_unpacking(self, index):
        operator = self.graph.operators[index]
        return self.kinds[index] in flatbuffer.UNPACKING and self._is_constant(operator.inputs[0])

    def _pad(self, index):
        operator = self.graph.operators[index]
        sizes = flatbuffer.stored_values(self.model, self.graph.tensors[operator.inputs[1]])
        return None if sizes is None else tuple(map(tuple, sizes.reshape(-1, 2)[1:3].tolist()))

    def _merged_padding(self, index):
        """Returns the convolution into which a PAD operator is merged, or `None`."""
        from ai_edge_litert import schema_py_generated as schema

        if self.kinds[index] != "PAD" or self._pad(index) is None:
            return None
        operator = self.graph.operators[index]
        sizes = flatbuffer.stored_values(self.model, self.graph.tensors[operator.inputs[1]])
        readers = self.uses[operator.outputs[0]]
        if len(readers) != 1 or sizes.size != 8 or np.any(sizes.reshape(4, 2)[[0, 3]]):
            return None
        if operator.outputs[0] in self.graph.outputs or self.kinds[readers[0]] not in CONVOLUTIONS:
            return None
        options = self.graph.operators[readers[0]].builtinOptions
        strided = (options.strideH, options.strideW) != (1, 1)
        return None if strided and options.padding == schema.Padding.SAME else readers[0]

    def _is_delegated(self, index):
        operator = self.graph.operators[index]
        if self.kinds[index] not in DELEGATED or not len(operator.inputs):
            return False
        tensors = [self.graph.tensors[t] for t in (operator.inputs[0], operator.outputs[0])]
        direct = any(self.graph.tensors[t].sparsity is not None for t in operator.inputs if t >= 0)
        return not direct and all(flatbuffer.dtype_name(t) in TYPES for t in tensors)

    def _parts(self):
        """Returns the part of every operator.

        The part counts the changes between XNNPACK and other code on the path to the operator.
        """
        parts, steps = [], []
        for index, operator in enumerate(self.graph.operators):
            own = self._is_delegated(index)
            step = 0
            for before in {self.producers[t] for t in operator.inputs if t in self.producers}:
                # What is written later is no input in a file that is in order.
                if before < index and not self._is_unpacking(before):
                    step = max(step, steps[before] + (own != (parts[before] >= 0)))
            steps.append(step)
            parts.append(step if own else -1)
        return parts


def _short(name):
    """Returns the layer's name from a tensor's name, which lists all merged operations."""
    path = (name or b"").decode(errors="replace").split(";")[-1].split("/")
    # Keras' batch normalization adds a level of its own to the name.
    path = [part for part in path[:-1] if part != "batchnorm"] or path
    return path[-1]
