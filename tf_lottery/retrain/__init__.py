"""Techniques that improve the retraining of sparse networks, found by any method."""

from tf_lottery.retrain._fake_quantization import fake_quantization as fake_quantization
from tf_lottery.retrain._fake_quantization import (
    remove_fake_quantization as remove_fake_quantization,
)
from tf_lottery.retrain._ghost_skips import ghost_skips as ghost_skips
from tf_lottery.retrain._ghost_skips import remove_ghost_skips as remove_ghost_skips
from tf_lottery.retrain._recipe import Recipe as Recipe
from tf_lottery.retrain._recipe import recipe as recipe
from tf_lottery.retrain._rescale_to_density import rescale_to_density as rescale_to_density
from tf_lottery.retrain._rescaled_initialization import RescalingReport as RescalingReport
from tf_lottery.retrain._rescaled_initialization import (
    rescaled_initialization as rescaled_initialization,
)
from tf_lottery.retrain._soft_activations import remove_soft_activations as remove_soft_activations
from tf_lottery.retrain._soft_activations import soft_activations as soft_activations
from tf_lottery.retrain.distillation import distill as distill
from tf_lottery.retrain.distillation import remove_distillation as remove_distillation
from tf_lottery.retrain.label_smoothing import SmoothedCrossentropy as SmoothedCrossentropy
from tf_lottery.retrain.label_smoothing import keras_label_smoothing as keras_label_smoothing
from tf_lottery.retrain.suitable_tweaks import TWEAKS as TWEAKS
from tf_lottery.retrain.warm_up import WarmUp as WarmUp
