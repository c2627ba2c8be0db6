"""Spending a ticket better: what changes when a sparse network is trained again."""

from tf_lottery.retrain.label_smoothing import SmoothedCrossentropy as SmoothedCrossentropy
from tf_lottery.retrain.label_smoothing import keras_label_smoothing as keras_label_smoothing
from tf_lottery.retrain.rescale_to_density import rescale_to_density as rescale_to_density
