"""Pairs the weights of two instances of an architecture."""

import collections
import re


def match_paths(sources, targets):
    """Pairs the weights of two instances of an architecture, by path and shape.

    It tries exact paths, paths without automatic numbers in layer names, and paths without the
    names of enclosing models too. Layers whose names are then equal are paired by their order. It
    uses the way that gives most pairs.

    Args:
        sources: Dict of paths to shapes.
        targets: Dict of paths to shapes.

    Returns:
        Dict of paths of `sources` to paths of `targets`. Paths without a partner are left out.

    Example:

    >>> match_paths({"dense/kernel": (4, 3)}, {"dense_1/kernel": (4, 3)})
    {'dense/kernel': 'dense_1/kernel'}
    """
    candidates = []
    for make_keys in _KEYS:
        by_key = {key: path for path, key in make_keys(targets).items()}
        pairs = {path: by_key.get(key) for path, key in make_keys(sources).items()}
        candidates.append({a: b for a, b in pairs.items() if b and sources[a] == targets[b]})
    return max(candidates, key=len)


def _exact(paths):
    return {path: path for path in paths}


def _unnumbered(paths):
    """Returns keys that do not depend on automatic numbers in names."""
    return _ordered({path: re.sub(r"_\d+(?=/)", "", path) for path in paths})


def _unnumbered_ends(paths):
    """Returns keys that depend neither on automatic numbers nor on enclosing models.

    Keras drops the name of a sequential model from its paths when it loads one.
    """
    return _ordered(
        {path: re.sub(r"_\d+(?=/)", "", "/".join(path.split("/")[-2:])) for path in paths}
    )


def _ordered(stems):
    counts = collections.Counter()
    keys = {}
    for path, stem in stems.items():
        counts[stem] += 1
        keys[path] = (stem, counts[stem])
    return keys


# From the strictest to the loosest. If several give the same number of pairs, the first is used.
_KEYS = (_exact, _unnumbered, _unnumbered_ends)


def mismatch(path, paths, others, matched):
    """Returns how the shape of a weight with the same name differs, or `None` without one.

    Args:
        path: String, a path in `paths` without a partner.
        paths: Dict of paths to shapes.
        others: Dict of the paths of the other side to shapes.
        matched: Collection of the paths in `others` with a partner.
    """
    for make_keys in _KEYS:
        by_key = {key: other for other, key in make_keys(others).items()}
        other = by_key.get(make_keys(paths)[path])
        if other is not None and other not in matched:
            return f"has shape {paths[path]} here and {others[other]} there, as {other!r}"
    return None
