"""Converts a SavedModel; runs in a separate process, see `ChildProcess`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402, its log level is read when it is imported


def convert(folder):
    """Returns the bytes of the float32 TFLite file of a SavedModel.

    Args:
        folder: String, the folder of the SavedModel.
    """
    return tf.lite.TFLiteConverter.from_saved_model(folder).convert()
