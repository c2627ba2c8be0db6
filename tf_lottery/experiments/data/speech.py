"""Speech as features: mel-frequency cepstral coefficients, as in MLPerf Tiny."""

import numpy as np

RATE, CLIP = 16_000, 16_000
FRAME, STEP = 480, 320
BANDS, COEFFICIENTS = 40, 10
_LOWEST, _HIGHEST = 20.0, 4000.0
_SPECTRUM = 512


def fixed_length(audio):
    """Returns a clip of one second: the beginning of a longer one, or a shorter one with zeros.

    Args:
        audio: Array of shape `(samples,)`, 16-bit integers at 16 kHz.

    Example:

    >>> fixed_length(np.array([16384])).shape
    (16000,)
    """
    audio = np.asarray(audio)[:CLIP] / np.float32(32768)
    return np.pad(audio, (0, CLIP - len(audio)))


def mfcc(clips):
    """Returns the features of clips of one second.

    Frames of 30 ms, 20 ms apart, are weighted by a Hann window; the logarithms of 40 bands from
    20 to 4000 Hz, equally wide in mel, are transformed by a cosine transform (DCT-II), and the
    first 10 coefficients are kept: the features of MLPerf Tiny's keyword spotting.

    Args:
        clips: Array of shape `(clips, 16000)`, from -1 to 1.

    Returns:
        Array of shape `(clips, 49, 10, 1)`.

    Example:

    >>> mfcc(np.zeros((2, 16000))).shape
    (2, 49, 10, 1)
    """
    windows = np.lib.stride_tricks.sliding_window_view(clips, FRAME, axis=1)[:, ::STEP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    spectrum = np.abs(np.fft.rfft(windows * hann, _SPECTRUM))
    bands = np.log(spectrum @ _mel_weights() + 1e-6)
    angles = np.pi / BANDS * np.outer(np.arange(BANDS) + 0.5, np.arange(COEFFICIENTS))
    found = bands @ np.cos(angles) * np.sqrt(2 / BANDS)
    return found[..., None].astype("float32")


def _mel_weights():
    """Returns the share of every frequency in every band, triangles that overlap by a half."""
    frequencies = np.linspace(0, RATE / 2, _SPECTRUM // 2 + 1)
    edges = np.linspace(_mel(_LOWEST), _mel(_HIGHEST), BANDS + 2)
    below, centre, above = edges[:-2], edges[1:-1], edges[2:]
    mel = _mel(frequencies)[:, None]
    rising, falling = (mel - below) / (centre - below), (above - mel) / (above - centre)
    return np.maximum(0, np.minimum(rising, falling))


def _mel(frequency):
    return 1127 * np.log1p(frequency / 700)
