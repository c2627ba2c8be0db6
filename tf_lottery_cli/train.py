"""`tf-lottery train`: train a sparse network and save it."""

import itertools
import json

from tf_lottery_cli import train_options
from tf_lottery_cli.argument_types import whole
from tf_lottery_cli.data_options import (
    DATA,
    add_data_options,
    load_data,
)
from tf_lottery_cli.model_options import DEFAULT_MODELS, add_model_option
from tf_lottery_cli.parser import (
    METHODS,
    add_command,
    add_output_options,
    add_run_options,
    add_step_options,
    options_of_method,
    step_options,
)
from tf_lottery_cli.terminal import Output, import_keras, print_run

DESCRIPTION = """\
Trains a network to a sparsity and saves a plain Keras model, a ticket and results.json.
Use rigl to train sparse from the first step to the last: it moves connections to where the
gradient is largest (set: at random; snfs: by momentum; static: never). Use gmp for a good sparse
network from one training that starts dense and is pruned little by little. Use imp for a lottery
ticket: it trains, prunes and rewinds level by level, with a training per level. Use cs for a
ticket of any density in a few trainings: gates learn which weights to keep; several densities are
separate runs. snip, grasp and synflow prune once, before training; dense prunes nothing, for
comparison.

  tf-lottery train --method rigl --dataset mnist --sparsity 0.98 --epochs 10
  tf-lottery train --method gmp --dataset digits --sparsity 0.9 --epochs 20
  tf-lottery train --method imp --dataset mnist --sparsity 0.95 --rate 0.2 --epochs 3
  tf-lottery train --method cs --dataset mnist --target-density 0.2,0.1,0.05 --epochs 4
  tf-lottery train --method rigl --dataset tiny_shakespeare --sparsity 0.75 --drop-fraction 0.1
  tf-lottery train --method gmp --model mine.keras --data photos/ --sparsity 0.9

{data}
What is not given is held out: a tenth for the test, and a tenth for validation. The weights of your
model are the initial ones, and it keeps its loss and metrics; without a loss it gets the
cross-entropy."""

_CAPTION = "imp: iterative magnitude pruning, a fifth of the weights per level"
RESUME = "(the same command goes on from the last epoch)"


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "train",
        run,
        "train a sparse network, by one of eleven methods",
        DESCRIPTION.format(data=DATA),
        RESUME,
    )
    parser.add_argument(
        "--method", choices=METHODS, required=True, help="how zeros are chosen; see above"
    )
    add_data_options(parser)
    add_model_option(parser, f"the network, or a .keras file of yours (default: {DEFAULT_MODELS})")
    parser.add_argument(
        "--epochs",
        type=whole(1),
        default=10,
        metavar="N",
        help="epochs; for imp per level, for cs per round (default: 10)",
    )
    add_step_options(parser)
    train_options.add_sparsity_options(parser.add_argument_group("how sparse and where"))
    train_options.add_update_options(
        parser.add_argument_group("options of --method rigl, set and snfs")
    )
    train_options.add_imp_options(parser.add_argument_group("options of --method imp"))
    train_options.add_cs_options(parser.add_argument_group("options of --method cs"))
    add_run_options(parser, "runs/train")
    add_output_options(parser)


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If arguments do not fit, or the folder holds a run with others.
        OSError: If the data set is missing or the folder cannot be written.
    """
    options = _options(args)
    import_keras()
    from tf_lottery.experiments import training

    rate = options.pop("rate", None)
    settings = {
        folder: training.TrainSettings(
            method=args.method,
            model=args.model,
            epochs=args.epochs,
            **step_options(args),
            **run_options,
        )
        for folder, run_options in _runs(args.out, options).items()
    }
    if rate is not None:
        settings = {folder: chosen.with_rate(rate) for folder, chosen in settings.items()}
    output, results = Output(args), {}
    arrays = load_data(args, args.model, output)
    for folder, chosen in settings.items():
        if args.fresh:
            training.remove_training(folder)
        if len(settings) > 1:
            output.note(f"Run in {folder}")
        with output.working(folder):
            results[folder] = training.run_training(
                arrays, chosen, folder, args.seed, output.verbose
            )
    if args.json:
        found = [{"folder": folder, **result} for folder, result in results.items()]
        print(json.dumps(found if len(found) > 1 else found[0], indent=1))
    elif len(results) > 1:
        output.console.print(_table(results))
    else:
        _print_one(output.console, *results.popitem())


def _runs(out, options):
    """Returns the options of each run by its folder: a run for each combination of lists."""
    lists = {name: values for name, values in options.items() if isinstance(values, list)}
    runs = {}
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        varied = [f"{name}_{chosen[name]:g}" for name in lists if len(lists[name]) > 1]
        runs["/".join([out, "_".join(varied)]) if varied else out] = {**options, **chosen}
    return runs


def _print_one(console, folder, results):
    is_search = results["settings"]["method"] == "cs"
    print_run(console, folder, results, _cost(results) if is_search else None)


def _table(results):
    """Returns a table of several runs, with what magnitude pruning would cost."""
    from tf_lottery.printable import plain_table

    table = plain_table(caption=_CAPTION, caption_justify="left")
    table.add_column("Folder", overflow="fold")
    for name in ("Density", "Test accuracy", "Epochs", "Epochs of imp"):
        table.add_column(name, justify="right")
    for folder, result in results.items():
        numbers = (
            f"{result['density']:.2%}",
            f"{result['test_accuracy']:.2%}",
            str(result["epochs"]),
        )
        table.add_row(folder, *numbers, str(_epochs_of_imp(result)))
    return table


def _cost(results):
    return (
        f"{results['epochs']} epochs; iterative magnitude pruning, a fifth of the weights per "
        f"level, would take {_epochs_of_imp(results)}"
    )


def _epochs_of_imp(results):
    from tf_lottery.experiments import methods

    return methods.search_epochs(results["density"], results["settings"]["epochs"])


def _options(args):
    """Returns the options of the method that were given, checked before anything is imported."""
    given = options_of_method(args)
    if "levels" in given and "rate" in given:
        raise ValueError(
            "--levels and --rate exclude each other, since --sparsity decides the other one. "
            f"Received: --levels {args.levels} --rate {args.rate}"
        )
    return given
