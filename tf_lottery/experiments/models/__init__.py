"""Networks of the papers and of MLPerf Tiny, as functions that return plain Keras models."""

from tf_lottery.experiments.models._resnet import resnet as resnet
from tf_lottery.experiments.models._resnet import resnet_20 as resnet_20
from tf_lottery.experiments.models.conv import conv_4 as conv_4
from tf_lottery.experiments.models.conv import conv_6 as conv_6
from tf_lottery.experiments.models.imagenet_resnet import resnet_18 as resnet_18
from tf_lottery.experiments.models.imagenet_resnet import resnet_34 as resnet_34
from tf_lottery.experiments.models.imagenet_resnet import resnet_50 as resnet_50
from tf_lottery.experiments.models.language_model import gru_language_model as gru_language_model
from tf_lottery.experiments.models.lenet import lenet_5 as lenet_5
from tf_lottery.experiments.models.lenet import lenet_300_100 as lenet_300_100
from tf_lottery.experiments.models.mlperf_tiny import (
    mlperf_tiny_autoencoder as mlperf_tiny_autoencoder,
)
from tf_lottery.experiments.models.mlperf_tiny import mlperf_tiny_ds_cnn as mlperf_tiny_ds_cnn
from tf_lottery.experiments.models.mlperf_tiny import (
    mlperf_tiny_mobilenet_v1 as mlperf_tiny_mobilenet_v1,
)
from tf_lottery.experiments.models.mlperf_tiny import mlperf_tiny_resnet_8 as mlperf_tiny_resnet_8
from tf_lottery.experiments.models.mobilenet import mobilenet_v1 as mobilenet_v1
from tf_lottery.experiments.models.mobilenet import mobilenet_v2 as mobilenet_v2
from tf_lottery.experiments.models.vgg import vgg_16 as vgg_16
from tf_lottery.experiments.models.vgg import vgg_19 as vgg_19
from tf_lottery.experiments.models.wide_resnet import wide_resnet_22_2 as wide_resnet_22_2
