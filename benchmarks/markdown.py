"""Formats numbers and tables for the documentation."""


def table(head, rows):
    """Returns a table.

    Args:
        head: List of strings.
        rows: List of lists of strings.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value):
    """Returns a fraction as a percentage with two decimals, without the percent sign."""
    return f"{100 * value:.2f}"


def signed(mean, error, seeds):
    """Returns a mean difference in points with its sign, standard error and number of seeds.

    Args:
        mean: Float, a fraction.
        error: Float, or `None` if there is one seed.
        seeds: Integer.
    """
    deviation = "" if error is None else f" ± {percent(error)}"
    return f"{100 * mean:+.2f}{deviation} ({seeds})"
