"""Results that print as a table."""


class Printable:
    """Base of objects with a method `__rich__`: `print` shows what rich would show."""

    def __str__(self):
        from rich.console import Console

        console = Console(width=110)
        with console.capture() as capture:
            console.print(self)
        return capture.get()
