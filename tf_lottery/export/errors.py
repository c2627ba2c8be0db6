"""The error that an export raises."""


class ExportError(RuntimeError):
    """Raised when no correct file could be made. Nothing was written.

    Args:
        message: String.
        problem: String, the part of it that is no advice on arguments of `export_tflite`. Defaults
            to `None`: all of it.
    """

    def __init__(self, message: str, problem: str | None = None) -> None:
        super().__init__(message)
        self.problem = message if problem is None else problem
