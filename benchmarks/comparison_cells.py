"""Cells of tables: accuracies and differences as `comparison.py` records them."""

from markdown import mean_cell, signed


def accuracy_cell(summary, **fields):
    """Returns a mean accuracy with its deviation and the number of seeds.

    Args:
        summary: List of dicts; see `comparison.summarize`.
        **fields: What the entry of the case has, such as `method` and `sparsity`.

    Returns:
        String, empty if the case has not been trained.
    """
    found = [case for case in summary if all(case[k] == v for k, v in fields.items())]
    if not found:
        return ""
    return mean_cell(**found[0]["test_accuracy"], seeds=found[0]["seeds"])


def difference_cell(differences, better, worse):
    """Returns a mean difference with its standard error and the number of seeds.

    Args:
        differences: List of dicts; see `comparison.differences`.
        better: `comparison.Case`.
        worse: `comparison.Case`.

    Returns:
        String, empty if no seed has both.
    """
    for found in differences:
        if [found["better"], found["worse"]] == [better.name, worse.name] and found["seeds"]:
            return signed(found["mean"], found["standard_error"], found["seeds"])
    return ""
