"""`tf-lottery retrain`: train a ticket again, with tweaks or as a control."""

import argparse
import json
import os
import pathlib

from tf_lottery_cli.argument_types import positive, several, share, whole
from tf_lottery_cli.data_options import (
    DATA,
    DATASETS,
    add_data_options,
    image_options,
    load_data,
)
from tf_lottery_cli.files import existing_file
from tf_lottery_cli.model_options import MODELS, add_model_option, import_custom
from tf_lottery_cli.parser import (
    ACTIVATIONS,
    CONTROLS,
    TWEAKS,
    add_command,
    add_output_options,
    add_run_options,
    add_step_options,
    step_options,
)
from tf_lottery_cli.terminal import Output, import_keras, print_run

DESCRIPTION = """\
Trains a lottery ticket once more, from its masks and weights, with tweaks that help sparse
networks learn and are gone at the end: model.keras is the plain network. soft-activation trains
with a smooth function that turns into ReLU, ghost-skips with 1x1 convolutions beside the masked
ones that fade out, rescaled-init with initial weights rescaled for a better first step,
label-smoothing with softer labels, distill with a dense network as the teacher. Use --tweaks none
to compare with plain retraining, and --control to see whether the ticket's weights and masks
matter.

  tf-lottery train --method imp --dataset mnist --sparsity 0.95 --epochs 3
  tf-lottery retrain runs/train/ticket.npz --tweaks soft-activation,rescaled-init
  tf-lottery retrain runs/train/ticket.npz --tweaks none --out runs/plain
  tf-lottery retrain runs/train/ticket.npz --control shuffled-masks --out runs/shuffled
  tf-lottery train --method dense --dataset mnist --epochs 10 --out runs/dense
  tf-lottery retrain runs/train/ticket.npz --teacher runs/dense/model.keras --out runs/taught
  tf-lottery retrain runs/train/ticket.npz --model mine.keras --data train.npz

{data}
Your own data, and a model of yours, are named again: a run keeps no path, but refuses others."""

RESUME = "(the same command goes on from the last epoch)"

# The tweaks that use each option.
_TWEAKS_WITH = {
    "teacher": ("distill",),
    "alpha": ("distill",),
    "temperature": ("distill",),
    "activation": ("soft-activation",),
    "annealed": ("soft-activation", "ghost-skips"),
}
_WHY_NOT = {
    "soft-activation": "no ReLU",
    "ghost-skips": "no masked convolution can have one, or a training below 10,000 steps",
    "distill": "no --teacher, or a training below 10,000 steps",
}


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "retrain",
        run,
        "train a ticket again, with tweaks",
        DESCRIPTION.format(data=DATA),
        RESUME,
    )
    parser.add_argument("ticket", type=existing_file, metavar="TICKET", help="a .npz ticket")
    parser.add_argument(
        "--tweaks",
        type=_tweaks,
        default="all",
        metavar="T[,T...]",
        help=f"{', '.join(TWEAKS)}; none; or all (default), without those that the network "
        "cannot have, and in less than 10,000 steps without ghost-skips and distill, which lower "
        "the accuracy of short trainings",
    )
    parser.add_argument(
        "--control",
        choices=CONTROLS,
        help="train in place of the ticket: its masks with new random weights, or with new weights "
        "of the same signs; its weights with the masks shuffled within each layer, or with random "
        "masks (ERK); or its masks and signs with one magnitude per layer",
    )
    note = " (default: that of the run the ticket lies in)"
    add_data_options(parser, default=None, note=note)
    add_model_option(parser, f"the ticket's network, or the .keras file with it{note}")
    _add_training_options(parser)
    _add_tweak_options(parser.add_argument_group("options of --tweaks"))
    add_run_options(parser, "runs/retrain", "the order of the data and what is random in a control")
    add_output_options(parser)


def _add_training_options(parser):
    parser.add_argument("--epochs", type=whole(1), default=10, metavar="N", help="(default: 10)")
    add_step_options(parser, "cosine")


def _add_tweak_options(group):
    group.add_argument(
        "--teacher",
        type=existing_file,
        metavar="MODEL",
        help="for distill: a .keras model with logits as outputs, such as tf-lottery train "
        "--method dense writes",
    )
    group.add_argument(
        "--alpha",
        type=share,
        metavar="A",
        help="for distill: its share in the loss (default: 0.474)",
    )
    group.add_argument("--temperature", type=positive, metavar="T", help="for distill (default: 5)")
    group.add_argument(
        "--activation", choices=ACTIVATIONS, help="for soft-activation (default: swish)"
    )
    group.add_argument(
        "--annealed",
        type=share,
        metavar="F",
        help="for soft-activation and ghost-skips: the share of the training at which they are "
        "gone (default: 0.5)",
    )


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If arguments do not fit, the ticket is of another network, or the folder
            holds a run with other arguments or the ticket itself.
        OSError: If the ticket or the data set is missing or the folder cannot be written.
    """
    options = _options(args)
    _check_out(args)
    import_keras()
    from tf_lottery.experiments import model_file, retraining

    import_custom(args)
    output = Output(args)
    ticket = _load_ticket(args.ticket)
    teacher = model_file.load_model(options.pop("teacher")) if "teacher" in options else None
    dataset, model, images = _origin(args, ticket, output)
    settings = retraining.RetrainSettings(
        model=model,
        tweaks=None if args.tweaks is None else tuple(TWEAKS[name] for name in args.tweaks),
        control=args.control and args.control.replace("-", "_"),
        epochs=args.epochs,
        **step_options(args),
        **options,
    )
    arrays = load_data(args, model, output, dataset, images)
    if args.fresh:
        retraining.remove_retraining(args.out)
    with output.working(args.out):
        results = retraining.run_retraining(
            arrays,
            settings,
            ticket,
            args.out,
            teacher,
            args.seed,
            output.verbose,
            lambda recipe: _print_recipe(output.notes, recipe, args),
        )
    if args.json:
        print(json.dumps({"folder": args.out, **results}, indent=1))
        return
    print_run(output.console, args.out, results, args.control and f"Control: {args.control}")


def _tweaks(text):
    """Returns a list of names, `None` for all."""
    if text == "all":
        return None
    names = [] if text == "none" else several(str)(text)
    if not set(names) <= set(TWEAKS):
        raise argparse.ArgumentTypeError(
            f"must be all, none, or names separated by commas of {', '.join(TWEAKS)}. "
            f"Received: {text!r}"
        )
    return names


def _options(args):
    """Returns the options of the tweaks that were given, checked before anything is imported."""
    given = {name: getattr(args, name) for name in _TWEAKS_WITH if getattr(args, name) is not None}
    if args.tweaks is None:
        chosen, received = set(TWEAKS), "all"
        if "teacher" not in given:
            chosen, received = chosen - {"distill"}, "all without --teacher"
    else:
        chosen, received = set(args.tweaks), ",".join(args.tweaks) or "none"
    for name in given:
        if not chosen & set(_TWEAKS_WITH[name]):
            raise ValueError(
                f"--{name} is an option of --tweaks {', '.join(_TWEAKS_WITH[name])}. "
                f"Received: --tweaks {received}"
            )
    if "distill" in chosen and "teacher" not in given:
        raise ValueError(
            "--tweaks distill needs --teacher, a dense network: `tf-lottery train --method dense` "
            f"writes one as model.keras. Received: --tweaks {received}"
        )
    return given


def _check_out(args):
    """Refuses to overwrite the run that the ticket or the teacher is from."""
    out = pathlib.Path(args.out).resolve()
    for name, path in (("TICKET", args.ticket), ("--teacher", args.teacher)):
        if path is not None and out in pathlib.Path(path).resolve().parents:
            raise ValueError(
                f"--out must be another folder than that of {name}, whose files it would replace. "
                f"Received: --out {args.out}"
            )


def _load_ticket(path):
    from tf_lottery.experiments import model_file
    from tf_lottery.ticket import Ticket

    if model_file.kind(path) != "ticket":
        raise ValueError(
            "TICKET must be a ticket of tf_lottery (.npz), which `tf-lottery train` writes beside "
            f"model.keras. Received: {str(path)!r}, a model"
        )
    return Ticket.load(path)


def _origin(args, ticket, output):
    """Returns data set, network and options of images: those given, else those of the run."""
    chosen = {"dataset": args.data or args.dataset, "model": args.model}
    missing = [name for name in chosen if chosen[name] is None]
    settings, path = _run_of(args.ticket) if missing or args.data else ({}, None)
    taken = {}
    for name in missing:
        chosen[name], origin = settings.get(name), path
        _check_named(name, settings, args)
        if name == "model" and chosen[name] is None:
            # Experiments that have one network only name it in their tickets.
            chosen[name] = str(ticket.provenance.get("model")).replace("_", "-")
            origin = args.ticket
        if chosen[name] not in {"dataset": DATASETS, "model": MODELS}[name]:
            raise ValueError(
                f"--{name} must be given, since no settings.json beside TICKET names one. "
                f"Received: {args.ticket}"
            )
        taken.setdefault(origin, []).append(f"{name} {chosen[name]}")
    images = image_options(args)
    for name in ("image_size", "normalize") if args.dataset is None else ():
        if name in settings and name not in images:
            images[name] = settings[name]
            taken.setdefault(path, []).append(f"{name} {settings[name]}")
    for origin, names in taken.items():
        output.note(f"From {origin}: {', '.join(names)}")
    return chosen["dataset"], chosen["model"], images


def _check_named(name, settings, args):
    """Raises a `ValueError` if a run had data or a network of the user's own."""
    option, key = ("data", "data_digest") if name == "dataset" else ("model", "model_digest")
    if key in settings:
        raise ValueError(
            f"--{option} must be given, since the run of TICKET had one of your own, "
            f"{settings[option]!r}. Received: {args.ticket}"
        )


def _run_of(ticket):
    """Returns the settings of the run in whose folder a ticket lies, and the path of their file."""
    from tf_lottery.experiments import run_folder

    folder = os.path.dirname(ticket)
    folders = [folder]
    if os.path.basename(os.path.abspath(folder)) == "search":
        folders.append(os.path.join(folder, os.pardir))
    for folder in folders:
        path = os.path.normpath(os.path.join(folder, "settings.json"))
        if os.path.exists(path):
            return run_folder.read_json(path), path
    return {}, None


def _print_recipe(console, recipe, args):
    if recipe.schedule:
        console.print(recipe)
    else:
        console.print(f"Plain retraining, {recipe.steps:,} steps", highlight=False)
    if recipe.rescaling is not None:
        before, after = recipe.rescaling.one_step_loss
        console.print(
            f"Rescaled: after one step the loss is {after:.4g} instead of {before:.4g}",
            highlight=False,
        )
    if args.tweaks is None:
        out = {name: TWEAKS[name] not in recipe.schedule for name in _WHY_NOT}
        left_out = [f"{name} ({_WHY_NOT[name]})" for name in _WHY_NOT if out[name]]
        if left_out:
            console.print(f"Left out: {', '.join(left_out)}", highlight=False, soft_wrap=True)
