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


def spread(mean, std, form=percent):
    """Returns a mean with its deviation.

    Args:
        mean: Float.
        std: Float, or `None` if there is one seed.
        form: Function of a number to a string. Defaults to `percent`.
    """
    return form(mean) if std is None else f"{form(mean)} ± {form(std)}"


def mean_cell(mean, std, seeds, sign=""):
    """Returns a mean in percent with its deviation and the number of seeds.

    Args:
        mean: Float, a fraction.
        std: Float, or `None` if there is one seed.
        seeds: Integer.
        sign: `"+"` writes the sign of positive numbers too. Defaults to `""`.
    """
    deviation = "" if std is None else f" ± {percent(std)}"
    return f"{100 * mean:{sign}.2f}{deviation} ({seeds})"


def signed(mean, error, seeds):
    """Returns a mean difference in points with its sign, standard error and number of seeds.

    Args:
        mean: Float, a fraction.
        error: Float, or `None` if there is one seed.
        seeds: Integer.
    """
    return mean_cell(mean, error, seeds, sign="+")
