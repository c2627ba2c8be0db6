"""Results that print as a table."""

import io


class Printable:
    """Base of objects with a method `__rich__`: `print` shows what rich would show."""

    def __str__(self):
        from rich.console import Console

        # A file of its own and no colors: the text is for whoever asked for it, also in Jupyter.
        console = Console(file=io.StringIO(), width=110, force_jupyter=False)
        console.print(self)
        return console.file.getvalue()
