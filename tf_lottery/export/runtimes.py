"""The runtimes that files are made for, and what each of them can read."""

from tf_lottery.checks import choice

RUNTIMES = ("litert", "micro", "portable")
IO_TYPES = ("float32", "int8", "uint8")
# Where a file was not run before it was written.
UNCHECKED = {
    "litert": (
        "other kinds of processors than this one, GPU delegates, NNAPI, Core ML, EdgeTPU; "
        "TFLite Micro reads no sparse weights"
    ),
    "micro": "vendors' kernels on the device (CMSIS-NN, Ethos-U, ESP-NN)",
    "portable": "the other runtime itself, such as OpenVINO",
}


def resolve(runtime, quantize, storage, io_type, dynamic_shapes=False):
    """Returns precision, storage and type of inputs and outputs that suit a runtime.

    Args:
        runtime: String, one of `RUNTIMES`.
        quantize: The user's argument, `None` for the runtime's default.
        storage: The user's argument.
        io_type: The user's argument, `None` for the runtime's default.
        dynamic_shapes: The user's argument. Defaults to `False`.

    Raises:
        ValueError: If the runtime cannot read what is asked for.
    """
    choice("runtime", runtime, RUNTIMES)
    if runtime == "micro":
        quantize = quantize or "int8"
        if quantize != "int8":
            raise ValueError(
                "Argument `quantize` must be 'int8' or None for runtime='micro', whose devices "
                f"compute with 8-bit integers. Received: quantize={quantize!r}"
            )
        if storage == "sparse":
            raise ValueError(
                "Argument `storage` must be 'auto' or 'dense' for runtime='micro', which reads "
                "sparse weights as if they were dense. What makes its files small are int8 and "
                "fewer channels: see `tfl.export.compact`. Received: storage='sparse'"
            )
        if dynamic_shapes:
            raise ValueError(
                "Argument `dynamic_shapes` must be False for runtime='micro', which plans its "
                "memory before the first run. Received: dynamic_shapes=True"
            )
        storage = "dense"
    if io_type is None:
        io_type = "int8" if runtime == "micro" else "float32"
    choice("io_type", io_type, IO_TYPES)
    if runtime == "micro" and io_type == "float32":
        raise ValueError(
            "Argument `io_type` must be 'int8' or 'uint8' for runtime='micro', whose devices take "
            "integers. Received: io_type='float32'"
        )
    if io_type != "float32" and quantize != "int8":
        raise ValueError(
            "Argument `io_type` must be 'float32' unless quantize='int8', which computes with "
            f"integers only. Received: io_type={io_type!r}, quantize={quantize!r}"
        )
    return quantize, storage, io_type
