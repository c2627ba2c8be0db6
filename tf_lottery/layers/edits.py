"""Sets attributes of layers, and restores them."""

_ABSENT = object()


def write_edits(edits):
    """Sets attributes.

    Args:
        edits: List of tuples `(object, attribute, value)`. The attribute may be `"__class__"`.

    Returns:
        Function without arguments that restores all of them.
    """
    before = []

    def undo():
        for target, name, value in reversed(before):
            if value is _ABSENT:
                delattr(target, name)
            else:
                setattr(target, name, value)

    try:
        for target, name, value in edits:
            own = type(target) if name == "__class__" else vars(target).get(name, _ABSENT)
            setattr(target, name, value)
            before.append((target, name, own))
    except BaseException:
        undo()
        raise
    return undo
