"""The options that name data, and what they stand for."""

import argparse

from tf_lottery_cli.argument_types import whole
from tf_lottery_cli.files import existing_source
from tf_lottery_cli.model_options import add_import_option, import_custom, is_file

# Repeated here, since the modules that define them import Keras.
IMAGES = ("digits", "mnist", "cifar10")
DATASETS = (
    *IMAGES,
    "fashion_mnist",
    "cifar100",
    "tiny_imagenet",
    "gestures",
    "speech_commands",
    "tiny_shakespeare",
)
# How many classes are listed.
_SHOWN = 20
DATA = """\
DATA is a .npz file with the arrays x and y; a folder with a folder of images for each class; a .csv
table with a column of labels; tfds:NAME, of TensorFlow Datasets; or MODULE:FUNCTION, a function of
yours that returns arrays (x, y), a tf.data data set of such batches, or a tuple of these:
(training, validation) or (training, validation, test)."""


def add_data_options(parser, default="digits", note=""):
    """Adds the arguments of `experiments.data.load`, and of `load_own`.

    Args:
        parser: A `Parser`.
        default: String, or `None` if the command finds the data set itself. Defaults to `"digits"`.
        note: String, what the help says about the default in that case. Defaults to `""`.
    """
    group = parser.add_argument_group("data")
    names = group.add_mutually_exclusive_group()
    names.add_argument(
        "--dataset",
        choices=DATASETS,
        default=default,
        help=f"digits {'(default) ' if default else ''}comes with scikit-learn: 1,797 images of "
        f"8x8; the others are read through TensorFlow Datasets{note}",
    )
    names.add_argument(
        "--data", type=existing_source, metavar="DATA", help="your own training data, see above"
    )
    for part in ("validation", "test"):
        group.add_argument(
            f"--{part}-data",
            type=existing_source,
            metavar="DATA",
            help=f"your own {part} data (default: a tenth of the training data, held out)",
        )
    add_folder_options(group, ", or of the files of gestures, fashion_mnist or tiny_imagenet")
    group.add_argument(
        "--image-size",
        type=whole(1),
        metavar="N",
        help="reduce images to N rows and columns, which N must divide; cifar10 has 32, and a step "
        "at 16 takes a quarter of the time; images of a folder of any size are scaled",
    )
    group.add_argument(
        "--normalize",
        action="store_const",
        const=True,
        help="give images, or the columns of a table, mean 0 and deviation 1 in every channel "
        "(default: pixels from 0 to 1; your own data as they are)",
    )
    add_reading_options(group)


def add_own_data_options(parser):
    """Adds how the user's own data are read, for a command that has no data sets by name.

    Args:
        parser: A `Parser`.
    """
    group = parser.add_argument_group("how DATA is read")
    add_folder_options(group)
    add_reading_options(group)


def add_folder_options(group, note=""):
    """Adds the folder of TensorFlow Datasets.

    Args:
        group: A `Parser` or an argument group.
        note: String, more about the folder for the help. Defaults to `""`.
    """
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        help=f"folder of TensorFlow Datasets (default: its usual one){note}",
    )
    group.add_argument(
        "--download", action="store_true", help="let TensorFlow Datasets fetch what is missing"
    )


def add_reading_options(group):
    """Adds how the user's own data and model are read.

    Args:
        group: An argument group.
    """
    group.add_argument(
        "--label-column",
        metavar="NAME",
        help="the column of a table with the labels (default: the one named label, else the last)",
    )
    group.add_argument(
        "--pixel-range",
        type=pixel_range,
        metavar="LOW,HIGH",
        help="numbers for black and white in images of a folder or of tfds:NAME, such as 0,1; a "
        "minus needs an equals sign: --pixel-range=-1,1 (default: 0,255)",
    )
    add_import_option(group)


def pixel_range(text):
    """Returns two numbers that are separated by a comma.

    Args:
        text: String.

    Example:

    >>> pixel_range("-1,1")
    (-1.0, 1.0)
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not float("-inf") < low < high < float("inf"):
        raise argparse.ArgumentTypeError(f"must be two numbers, such as 0,1. Received: {text!r}")
    return low, high


def load_data(args, network, output, dataset=None, images=None):
    """Returns the data that the options name, a data set or the user's own, and says its classes.

    Args:
        args: The parsed arguments of `add_data_options`.
        network: String, the name or the file of the network, or `None`.
        output: `Output`.
        dataset: String. Defaults to `None`: that of the options.
        images: Dict of options of the inputs. Defaults to `None`: those of the options.
    """
    from tf_lottery.experiments import data, model_file

    images = image_options(args) if images is None else images
    if args.data is None:
        for name in ("validation_data", "test_data"):
            if getattr(args, name) is not None:
                raise ValueError(
                    f"--{name.replace('_', '-')} must come with --data, the training data. "
                    f"Received: {getattr(args, name)!r}"
                )
        import_custom(args)
        return data.load(dataset or args.dataset, args.data_dir, args.download, **images)
    how, shape = reading(args), None
    if network is not None and is_file(network):
        shape = model_file.input_shape(model_file.load_model(network))
    found = data.load_own(
        args.data,
        validation=args.validation_data,
        test=args.test_data,
        reading=how,
        input_shape=shape,
        **images,
    )
    sizes = ", ".join(
        f"{len(getattr(found, part)[1])} for {name}"
        for part, name in (("train", "training"), ("validation", "validation"), ("test", "test"))
    )
    output.note(f"{found.name}: {sizes}")
    note_classes(output, found.classes)
    return found


def note_classes(output, classes):
    """Says which number stands for which class.

    Args:
        output: `Output`.
        classes: Tuple of strings, or `None` for numbers.
    """
    if classes:
        numbered = ", ".join(f"{i} {name}" for i, name in enumerate(classes[:_SHOWN]))
        more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
        output.note(f"Classes: {numbered}{more}")


def image_options(args):
    """Returns the options of the inputs that were given, as keyword arguments of `data.load`.

    Args:
        args: The parsed arguments of `add_data_options`.
    """
    given = {"image_size": args.image_size, "normalize": args.normalize}
    return {name: value for name, value in given.items() if value is not None}


def reading(args):
    """Returns how the user's own data are read, a `Reading`, after the import of `--import`.

    Args:
        args: The parsed arguments of `add_reading_options`.
    """
    from tf_lottery.experiments.data import Reading

    import_custom(args)
    given = {
        "label_column": args.label_column,
        "pixel_range": args.pixel_range,
        "image_size": getattr(args, "image_size", None),
        "data_dir": args.data_dir,
        "download": args.download,
    }
    return Reading(**{name: value for name, value in given.items() if value is not None})


def inputs_of(args, model, source):
    """Returns the inputs that a source holds, nested as the model takes them.

    Args:
        args: The parsed arguments of `add_own_data_options`.
        model: A built `keras.Model`, for the size of images.
        source: String, or `None`, for which `None` is returned.
    """
    from tf_lottery.experiments import model_file
    from tf_lottery.experiments.data import read_source

    if source is None:
        return None
    shape = model_file.input_shape(model)
    found = read_source(source, reading(args), input_shape=shape, needs_labels=False)
    return found.parts[0][0]
