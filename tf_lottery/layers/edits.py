"""Set attributes of layers, and set them back."""

_ABSENT = object()


def write_edits(edits):
    """Sets attributes.

    Args:
        edits: List of tuples `(object, attribute, value)`; `"__class__"` is an attribute too.

    Returns:
        Function without arguments that sets all of them back.
    """
    before = []
    for target, name, value in edits:
        own = type(target) if name == "__class__" else vars(target).get(name, _ABSENT)
        before.append((target, name, own))
        setattr(target, name, value)

    def undo():
        for target, name, value in reversed(before):
            if value is _ABSENT:
                delattr(target, name)
            else:
                setattr(target, name, value)

    return undo
