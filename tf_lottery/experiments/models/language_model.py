"""A recurrent language model."""

import keras

from tf_lottery.experiments.models.blocks import glorot_normal, layer_seeds


def gru_language_model(
    vocabulary_size: int = 256,
    units: int = 512,
    embedding: int = 128,
    input_shape: tuple[int | None, ...] = (None,),
    seed: int | None = None,
) -> keras.Model:
    """Builds a language model of characters: an embedding, a GRU and a dense layer.

    The kind of network of RigL's experiments on WikiText-103 (arXiv:1911.11134, section
    4.2): it predicts every next character from those before.

    Args:
        vocabulary_size: Integer, the number of different characters. Defaults to `256`:
            bytes.
        units: Integer, the size of the GRU's state. Defaults to `512`.
        embedding: Integer, the length of a character's vector. Defaults to `128`.
        input_shape: Tuple, the length of one text. Defaults to `(None,)`: any length.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from integers of shape `(batch, length)` to logits of shape
        `(batch, length, vocabulary_size)`.

    Example:

    >>> gru_language_model(vocabulary_size=80, seed=0).output_shape
    (None, None, 80)
    """
    seeds = layer_seeds(seed)
    layers = [
        keras.Input(input_shape, dtype="int32", name="input"),
        keras.layers.Embedding(
            vocabulary_size,
            embedding,
            embeddings_initializer=keras.initializers.RandomUniform(seed=next(seeds)),
            name="embedding",
        ),
        keras.layers.GRU(
            units,
            return_sequences=True,
            kernel_initializer=glorot_normal(seeds),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
            name="gru",
        ),
        keras.layers.Dense(vocabulary_size, kernel_initializer=glorot_normal(seeds), name="output"),
    ]
    return keras.Sequential(layers, name="gru_language_model")
