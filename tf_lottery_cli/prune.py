"""`tf-lottery prune`: prunes a trained model in one step, with unlabelled examples."""

import json
import pathlib
import warnings

from tf_lottery_cli.argument_types import fraction
from tf_lottery_cli.data_options import add_own_data_options, inputs_of
from tf_lottery_cli.files import existing_file, existing_source
from tf_lottery_cli.model_options import import_custom
from tf_lottery_cli.parser import add_command
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Prunes a trained .keras model of your own in one step and without labels: it needs some hundred
or thousand typical inputs. The layers get the sparsities that ranking the magnitudes of
all weights together gives; Optimal Brain Surgeon chooses the weights of each layer, and the
weights that are left are refitted to the outputs of the dense network. Use it when training
again is no option, or to see what a sparsity costs. The new file is a plain Keras model.

  tf-lottery prune model.keras --data examples.npy --sparsity 0.9
  tf-lottery prune model.keras --data train.npz --sparsity 0.5 --pattern 2:4 -o small.keras

DATA is a .npy file, a .npz file with x or with an array for each input of the model, a folder of
images, a .csv table, tfds:NAME, or MODULE:FUNCTION, a function of yours that returns arrays or a
tf.data data set. Labels are not used."""

# Arguments of the library, and the options that give them.
_OPTIONS = {"x": "data", "data": "data", "pattern": "pattern", "sparsity": "sparsity"}


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "prune", run, "prune a trained model with unlabelled examples", DESCRIPTION
    )
    parser.add_argument("file", type=existing_file, metavar="FILE", help="a .keras model")
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="the file to write (default: FILE with .pruned.keras)"
    )
    parser.add_argument(
        "--data",
        type=existing_source,
        required=True,
        metavar="DATA",
        help="typical inputs, see above",
    )
    parser.add_argument(
        "--sparsity", type=fraction, required=True, metavar="S", help="the fraction of zeros"
    )
    parser.add_argument(
        "--pattern",
        default="unstructured",
        metavar="P",
        help="unstructured (default), N:M such as 2:4, or blocks such as 4x1",
    )
    parser.add_argument(
        "--scores",
        choices=("obs", "magnitude"),
        default="obs",
        help="which weights to keep: Optimal Brain Surgeon (default) or the largest",
    )
    parser.add_argument("--no-repair", action="store_true", help="do not refit what is left")
    add_own_data_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the model or the data are not fit for it.
        OSError: If a file cannot be read or written.
    """
    import_keras()
    from tf_lottery.experiments import model_file
    from tf_lottery.experiments.run_folder import save_model

    import_custom(args)
    source = pathlib.Path(args.file)
    target = source.with_suffix(".pruned.keras") if args.out is None else pathlib.Path(args.out)
    if target.suffix != ".keras" or not target.parent.is_dir():
        raise ValueError(
            f"-o must be a .keras file in a folder that exists. Received: {str(target)!r}"
        )
    model = model_file.load_model(source)
    if target.exists() and target.samefile(source):
        raise ValueError(f"-o must not be the model itself. Received: {str(target)!r}")
    data = inputs_of(args, model, args.data)
    try:
        plain, report = _pruned(model, data, args)
    except ValueError as error:
        raise ValueError(_in_options(str(error))) from error
    save_model(plain, target)
    _print(plain, report, target, args.json)


def _in_options(message):
    """Replaces the names of arguments in a message by those of options."""
    for argument, option in _OPTIONS.items():
        message = message.replace(f"Argument `{argument}`", f"--{option}")
    return message


def _pruned(model, data, args):
    """Returns the pruned plain model, and the report of the repair or `None`."""
    import tf_lottery as tfl
    from tf_lottery.compression.one_shot import prune_in_one_step

    plain = tfl.strip(model) if isinstance(model, tfl.SparseModel) else model
    with warnings.catch_warnings():
        # No training follows that could revive them.
        warnings.filterwarnings("ignore", "Training will revive zeros")
        sparse = tfl.sparsify(plain, pattern=args.pattern)
    options = {"scores": args.scores, "repaired": not args.no_repair}
    report = prune_in_one_step(sparse, data, args.sparsity, **options)
    return tfl.strip(sparse), report


def _print(model, report, target, as_json):
    from rich.console import Console

    import tf_lottery as tfl

    summary = tfl.summary(model)
    if as_json:
        repaired = None if report is None else report.to_dict()
        found = {"path": str(target), "summary": summary.to_dict(), "repair": repaired}
        print(json.dumps(found, indent=1))
        return
    console = Console(markup=False)
    console.print(*(part for part in (summary, report) if part is not None))
    console.print(f"Written: {target}")
