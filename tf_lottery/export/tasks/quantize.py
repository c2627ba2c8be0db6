"""Quantizes TFLite files; runs in a process of its own, see `ChildProcess`."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

FLOAT16 = {
    "regex": ".*",
    "operation": "*",
    "algorithm_key": "float_casting",
    "op_config": {
        "weight_tensor_config": {
            "num_bits": 16,
            "symmetric": True,
            "granularity": "TENSORWISE",
            "dtype": "FLOAT",
        },
        "compute_precision": "FLOAT",
        "explicit_dequantize": True,
        "skip_checks": False,
    },
}
# Inputs and outputs of the file stay float32.
FLOAT_INTERFACE = [
    {"regex": ".*", "operation": kind, "algorithm_key": "no_quantize", "op_config": {}}
    for kind in ("INPUT", "OUTPUT")
]


def quantize(content, mode, steps=()):
    """Returns the bytes of the quantized, dense-stored file.

    Args:
        content: Bytes of a float32 file.
        mode: String, a mode of `tf_lottery.export.quantization`.
        steps: List of dicts of names to arrays, the representative inputs of `"int8"`.
    """
    recipes = {
        "float16": [FLOAT16],
        "weight_int8": recipe.weight_only_wi8_afp32(),
        "dynamic_int8": recipe.dynamic_wi8_afp32(),
        "int8": [*recipe.static_wi8_ai8(), *FLOAT_INTERFACE],
    }
    quantizing = quantizer.Quantizer(content, recipes[mode])
    ranges = _ranges(quantizing, content, steps) if quantizing.need_calibration else None
    result = quantizing.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _ranges(quantizing, content, steps):
    """Returns the smallest and the largest value of every tensor over all steps."""
    signature = next(iter(Interpreter(model_content=content).get_signature_list()))
    total = {}
    for step in steps:
        # One step at a time: over several the quantizer takes moving averages, which clip
        # what is rare.
        for name, values in quantizing.calibrate({signature: [step]}, num_threads=1).items():
            old = total.setdefault(name, dict(values))
            if "min" in values:
                old["min"] = np.minimum(old["min"], values["min"])
                old["max"] = np.maximum(old["max"], values["max"])
    return total
