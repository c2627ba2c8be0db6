"""The arguments of an export that decide how its file is made."""

import dataclasses

from tf_lottery.export.sparse_forms import MAX_SLOWDOWN


@dataclasses.dataclass(frozen=True)
class Settings:
    """The arguments of `tfl.export_tflite` that decide how a file is made.

    Args:
        quantize: `None` or a string, a key of `quantization.TOLERANCES`. Defaults to `None`.
        storage: String, one of `quantization.STORAGES`. Defaults to `"auto"`.
        optimize_for: String, one of `candidates.GOALS`. Defaults to `"disk"`.
        tolerance: Float. Defaults to `1e-5`.
        runs: Integer. Defaults to `50`.
        runtime: String, one of `runtimes.RUNTIMES`. Defaults to `"litert"`.
        io_type: String, one of `runtimes.IO_TYPES`. Defaults to `"float32"`.
        max_slowdown: Float. Defaults to `1.5`.
    """

    quantize: str | None = None
    storage: str = "auto"
    optimize_for: str = "disk"
    tolerance: float = 1e-5
    runs: int = 50
    runtime: str = "litert"
    io_type: str = "float32"
    max_slowdown: float = MAX_SLOWDOWN
