"""The error that an export raises."""


class ExportError(RuntimeError):
    """Raised when no correct file could be made. Nothing was written."""
