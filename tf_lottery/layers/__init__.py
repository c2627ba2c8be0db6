"""Layers that compute with sparse kernels, and the parts that they consist of."""

from tf_lottery.layers._functional_call import functional_call as functional_call
from tf_lottery.layers.gates import Gates as Gates
from tf_lottery.layers.growth_memory import GrowthMemory as GrowthMemory
from tf_lottery.layers.kernels import KernelSelection as KernelSelection
from tf_lottery.layers.kernels import find_kernels as find_kernels
from tf_lottery.layers.kernels import matrix_shapes as matrix_shapes
from tf_lottery.layers.masked import Masked as Masked
from tf_lottery.layers.masks import Masks as Masks
from tf_lottery.layers.part import Part as Part
from tf_lottery.layers.part import Selection as Selection
from tf_lottery.layers.soft_gate import SoftGate as SoftGate
