"""What an installation costs, from the recorded results."""

import record
from markdown import table


def install_all():
    """Returns the sentence about an installation with all that the commands of the README need."""
    found = record.read("install_cost")["results"]["all"]
    download, installed = (found[f"{key}_bytes"] / 1e9 for key in ("download", "installed"))
    seconds = found["import_keras_seconds"] + found["import_seconds"]
    return (
        f"The installation downloads {download:.1f} GB and takes {installed:.1f} GB of disk; "
        f"the import takes {seconds:.1f} seconds."
    )


def install_cost():
    """Returns the table of what each set of extras costs."""
    rows = []
    for extra, found in record.read("install_cost")["results"].items():
        megabytes = [f"{found[f'{key}_bytes'] / 1e6:,.0f}" for key in ("download", "installed")]
        seconds = [f"{found[f'import_{key}seconds']:.1f}" for key in ("keras_", "")]
        rows.append([f'`".[{extra}]"`', *megabytes, f"{found['install_seconds']:.0f}", *seconds])
    head = ["install", "MB to download", "MB on disk", "seconds to install"]
    return table([*head, "seconds to import Keras", "then `tf_lottery`"], rows)
