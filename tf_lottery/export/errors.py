"""What goes wrong in an export."""


class ExportError(RuntimeError):
    """The file would have been wrong, so it was not written."""
