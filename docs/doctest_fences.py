"""Shows the examples of docstrings as code, which Markdown would take for quotations."""

import re

import griffe

EXAMPLE = re.compile(r"^([ \t]*)>>> .*(?:\n(?![ \t]*\n|[ \t]*$).*)*", re.MULTILINE)


class DoctestFences(griffe.Extension):
    """Puts every block of lines that begins with a prompt between fences."""

    def on_instance(self, *, obj, **kwargs):
        """Changes the docstring of an object."""
        del kwargs
        if not obj.is_alias and obj.docstring is not None:
            text = EXAMPLE.sub(lambda match: _fenced(match[0]), obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "**Example**", text, flags=re.MULTILINE)


def _fenced(block):
    return f"```pycon\n{block}\n```"
