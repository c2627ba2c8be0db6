"""Layers that compute with sparse kernels."""

from tf_lottery.layers.functional_call import functional_call as functional_call
from tf_lottery.layers.gated import Gated as Gated
from tf_lottery.layers.kernels import KernelSelection as KernelSelection
from tf_lottery.layers.kernels import find_kernels as find_kernels
from tf_lottery.layers.kernels import matrix_shapes as matrix_shapes
from tf_lottery.layers.masked import Masked as Masked
from tf_lottery.layers.soft_gate import SoftGate as SoftGate
