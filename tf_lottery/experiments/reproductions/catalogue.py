"""The trainings of the papers at the size in which they were published.

Numbers are those of the papers and their official code. A weight decay here is ten times the
paper's L2 penalty, which acts through a momentum of 0.9; see `OptimizerSettings`.
"""

from tf_lottery.experiments.reproductions.reproduction import Reproduction
from tf_lottery.experiments.retraining import RetrainSettings
from tf_lottery.experiments.training import TrainSettings

_IMAGENET = {
    "dataset": "imagenet2012",
    "num_classes": 1000,
    "num_train": 1_281_167,
    "image_size": 224,
}
_CIFAR_100 = {"dataset": "cifar100", "num_classes": 100, "num_train": 45_000}
_TINY_IMAGENET = {"dataset": "tiny_imagenet", "num_classes": 200, "num_train": 90_000}
_RIGL, _CS = "arXiv:1911.11134", "arXiv:1912.04427"
_TOST = "arXiv:2206.12755 and arXiv:2101.03255"
# Passes through ImageNet in 32,000 batches of 4,096, and where the learning rate falls.
_PASSES, _RIGL_DROPS = 102, (30, 70, 90)
# Of the code for MobileNet, which has one more anchor of the learning rate, at its end.
_MOBILENET_PASSES, _MOBILENET_DROPS = 120, (40, 75, 95)


def _rigl(network, passes, warm_up, drops, sparsity, factor, published, ours=""):
    """Returns a training by RigL with masks of ERK.

    Args:
        network: String, a key of `networks.MODELS`.
        passes: Integer, through ImageNet.
        warm_up: Integer, the passes in which the learning rate rises.
        drops: Tuple of passes after which it falls to a tenth.
        sparsity: Float.
        factor: Integer, how many times longer the training is.
        published: Dict; see `Reproduction`.
        ours: String; see `Reproduction`.
    """
    batch_size = 4096
    steps = passes * (_IMAGENET["num_train"] // batch_size)
    settings = TrainSettings(
        "rigl",
        network,
        sparsity,
        epochs=factor * passes,
        batch_size=batch_size,
        distribution="erk",
        frequency=100,
        drop_fraction=0.3,
        end_step=factor * round(steps * 25_000 / 32_000),
        optimizer="sgd",
        learning_rate=1.6,
        schedule="step",
        drops=tuple(drop / passes for drop in drops),
        warm_up=warm_up / passes,
        weight_decay=1e-3,
        label_smoothing=0.1,
    )
    longer = f"-{factor}x" if factor > 1 else ""
    return Reproduction(
        name=f"{network}-rigl-{round(100 * sparsity)}{longer}",
        source=f"{_RIGL}, figures 2 and 3, and the tables of the official code",
        settings=settings,
        published=published,
        ours=f"whole passes: {steps} steps of 4,096 images for 32,000. {ours}".strip(),
        **_IMAGENET,
    )


def _resnet_50_rigl(sparsity, factor, accuracy, flops, megabytes):
    published = {"test_accuracy": accuracy, "inference_flops": flops, "megabytes": megabytes}
    return _rigl("resnet-50", _PASSES, 5, _RIGL_DROPS, sparsity, factor, published)


def _mobilenet_rigl(sparsity, factor, accuracy, megaflops, megabytes):
    published = {"megaflops": megaflops, "megabytes": megabytes}
    if accuracy is not None:
        published["test_accuracy"] = accuracy
    return _rigl(
        "mobilenet-v1",
        _MOBILENET_PASSES,
        8,
        _MOBILENET_DROPS,
        sparsity,
        factor,
        published,
        "The length of the training: the last anchor of the code's learning rate.",
    )


def _resnet_50_gates():
    return Reproduction(
        name="resnet-50-cs-90",
        source=f"{_CS}, abstract",
        settings=TrainSettings(
            "cs",
            "resnet-50",
            epochs=90,
            batch_size=256,
            rounds=1,
            target_density=0.1,
            gate_learning_rate=0.1,
            mode="prune",
            optimizer="sgd",
            schedule="step",
            drops=(30 / 90, 60 / 90, 80 / 90),
            weight_decay=1e-3,
        ),
        published={"test_accuracy": 0.755},
        ours="All settings: the paper's code has none for ImageNet. They are the usual ones of "
        "ResNet-50, with the gates' optimizer of the code for CIFAR-10.",
        **_IMAGENET,
    )


def _ticket(network, data=_CIFAR_100, ours=""):
    """Returns the search for a ticket, and its retraining with tweaks.

    Args:
        network: String, a key of `networks.MODELS`.
        data: Dict of what `Reproduction` is told about the data. Defaults to that of CIFAR-100.
        ours: String; see `Reproduction`.
    """
    common = {
        "batch_size": 128,
        "epochs": 182,
        "augment": ("flip", "shift"),
        "optimizer": "sgd",
        "schedule": "step",
        "drops": (90 / 182, 135 / 182),
        "weight_decay": 2e-3,
    }
    steps_per_epoch = data["num_train"] // common["batch_size"]
    search = {"levels": 15, "rewind": "weights", "rewind_to_step": 33 * steps_per_epoch}
    return Reproduction(
        name=f"{network}-ticket-{data['dataset']}",
        source=f"{_TOST}, and the official code",
        settings=TrainSettings("imp", network, 1 - 0.8**15, **search, **common),
        retraining=RetrainSettings(network, None, **common),
        ours="Fifteen levels, to 96.5% zeros. Tweaks fade, as the papers say and the code does "
        f"not. {ours}".strip(),
        **data,
    )


def _language_model():
    return Reproduction(
        name="gru-rigl-75-wikitext103",
        source=f"{_RIGL}, section 4.2 and appendix I",
        dataset="wikitext-103",
        num_classes=256,
        num_train=None,
        settings=TrainSettings(
            "rigl",
            "gru-512",
            0.75,
            epochs=100,
            steps_per_epoch=2000,
            batch_size=32,
            distribution="uniform",
            frequency=100,
            drop_fraction=0.1,
            end_step=200_000,
            learning_rate=7e-4,
        ),
        ours="Batch size, learning rate and windows of 100 characters; no code was published.",
    )


_ALL = (
    _resnet_50_rigl(0.8, 1, 0.751, 0.42, 23.683),
    _resnet_50_rigl(0.8, 5, 0.771, 0.42, 23.683),
    _resnet_50_rigl(0.9, 1, 0.730, 0.24, 13.499),
    _resnet_50_rigl(0.9, 5, 0.764, 0.24, 13.499),
    _mobilenet_rigl(0.75, 1, None, 599.144, 4.888),
    _mobilenet_rigl(0.75, 5, 0.719, 599.144, 4.888),
    _mobilenet_rigl(0.9, 1, None, 334.134, 2.392),
    _mobilenet_rigl(0.9, 5, 0.681, 334.134, 2.392),
    _resnet_50_gates(),
    *map(_ticket, ("resnet-18", "resnet-34", "vgg-16", "mobilenet-v1")),
    _ticket(
        "resnet-18",
        _TINY_IMAGENET,
        "All settings are those of the code for CIFAR-100, which has none for TinyImageNet.",
    ),
    _language_model(),
)
REPRODUCTIONS: dict[str, Reproduction] = {one.name: one for one in _ALL}
