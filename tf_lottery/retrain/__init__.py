"""Spending a ticket better: what changes when a sparse network is trained again."""

from tf_lottery.retrain.label_smoothing import SmoothedCrossentropy as SmoothedCrossentropy
from tf_lottery.retrain.label_smoothing import keras_label_smoothing as keras_label_smoothing
from tf_lottery.retrain.rescale_to_density import rescale_to_density as rescale_to_density
from tf_lottery.retrain.rescaled_initialization import RescalingReport as RescalingReport
from tf_lottery.retrain.rescaled_initialization import (
    rescaled_initialization as rescaled_initialization,
)
