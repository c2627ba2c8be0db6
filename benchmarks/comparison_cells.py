"""Cells of tables: accuracies and differences as `comparison.py` records them."""

from markdown import mean_cell, signed


def find_case(summary, **fields):
    """Returns the first entry of a case, `None` if it has not been trained.

    Args:
        summary: List of dicts; see `comparison.summarize`.
        **fields: What the entry has, such as `method` and `sparsity`.
    """
    cases = (case for case in summary if all(case[k] == v for k, v in fields.items()))
    return next(cases, None)


def accuracy_cell(summary, **fields):
    """Returns a mean accuracy with its deviation and the number of seeds.

    Args:
        summary: List of dicts; see `comparison.summarize`.
        **fields: See `find_case`.

    Returns:
        String, empty if the case has not been trained.
    """
    found = find_case(summary, **fields)
    return "" if found is None else mean_cell(**found["test_accuracy"], seeds=found["seeds"])


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
