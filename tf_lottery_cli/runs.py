"""`tf-lottery list`: the runs in a folder, and where they stand."""

import dataclasses
import json

from tf_lottery_cli.files import existing_folder
from tf_lottery_cli.parser import add_command
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Lists the runs in a folder and the folders in it: finished; running, if a process works on it now;
failed, if the loss or weights were not finite; or stopped, with the level and epoch from which the
same command goes on. Use it while a sweep trains, and after a machine was lost. It reads a few
bytes of every run and changes nothing.

  tf-lottery list runs
  tf-lottery list runs/sweep --json"""


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(commands, "list", run, "show runs and where they stand", DESCRIPTION)
    parser.add_argument(
        "folder",
        type=existing_folder,
        metavar="DIR",
        nargs="?",
        default="runs",
        help="(default: runs)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        OSError: If the folder cannot be read.
    """
    import_keras()
    from tf_lottery.experiments.run_status import find_runs

    found = find_runs(args.folder)
    if args.json:
        print(json.dumps([dataclasses.asdict(status) for status in found], indent=1))
        return
    from rich.console import Console

    console = Console(markup=False)
    if not found:
        console.print(f"No runs in {args.folder}", highlight=False, soft_wrap=True)
        return
    console.print(_table(found))


def _table(found):
    from tf_lottery.printable import plain_table

    states = [status.state for status in found]
    counts = (f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    table = plain_table(caption=", ".join(counts), caption_justify="left")
    table.add_column("Run", overflow="fold")
    for name in ("Kind", "State"):
        table.add_column(name)
    table.add_column("At", overflow="fold")
    for status in found:
        table.add_row(status.path, status.kind, status.state, status.at)
    return table
