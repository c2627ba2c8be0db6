"""The papers' networks, as functions that return plain Keras models."""

from tf_lottery.experiments.models.lenet import lenet_300_100 as lenet_300_100
from tf_lottery.experiments.models.resnet import resnet_20 as resnet_20
