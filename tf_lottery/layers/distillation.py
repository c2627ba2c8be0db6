"""Knowledge distillation: a teacher's outputs become part of the loss."""

import keras
from keras import ops

from tf_lottery.layers.part import Part


@keras.saving.register_keras_serializable("tf_lottery")
class Distillation(Part):
    """Adds the divergence from a teacher's outputs to the loss.

    `(1 - alpha) * loss + alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))`, with
    the mean of the divergence over all examples. The teacher is saved with the model.

    Args:
        teacher: A built `keras.Model`. It gets frozen.
        alpha: Float in [0, 1], the weight of the divergence. Defaults to `0.474`.
        temperature: Float > 0, `T`. Defaults to `5.0`.
        from_logits: Whether both models output logits, not probabilities. Defaults to `True`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        alpha: Variable, the current weight of the divergence. At 0 the loss is the model's own.
    """

    changes_loss = True

    def __init__(self, teacher, alpha=0.474, temperature=5.0, from_logits=True, **kwargs):
        super().__init__(**{"name": "distillation", **kwargs})
        self.teacher = teacher
        self.temperature, self.from_logits = temperature, from_logits
        self.initial_alpha = alpha
        self.alpha = self.add_weight(
            name="alpha",
            shape=(),
            initializer=keras.initializers.Constant(alpha),
            trainable=False,
            autocast=False,
        )
        self.trainable = False
        self.built = True

    def state(self):
        """Returns the list of the variables that training changes, without the teacher's."""
        return [self.alpha]

    @property
    def metrics(self):
        """Empty list: the teacher's metrics belong to the training that it was compiled for."""
        return []

    def change_loss(self, loss, x, y, y_pred):
        """Returns the loss with the divergence added."""
        del y
        alpha = ops.convert_to_tensor(self.alpha.value)

        def mixed():
            return (1.0 - alpha) * loss + alpha * ops.cast(self._divergence(x, y_pred), loss.dtype)

        # At alpha 0 the teacher's forward pass is skipped.
        return ops.cond(alpha > 0, mixed, lambda: loss)

    def _divergence(self, x, y_pred):
        taught, learned = (
            keras.tree.map_structure(self._logits, outputs)
            for outputs in (self.teacher(x, training=False), y_pred)
        )
        # An instance, not the name of the loss: Keras applies the softmax only for the class.
        losses = keras.tree.map_structure(lambda _: keras.losses.KLDivergence(), learned)
        return keras.distillation.LogitsDistillation(self.temperature, losses).compute_loss(
            taught, learned
        )

    def get_config(self):
        """Returns the configuration, the teacher's included."""
        return {
            **super().get_config(),
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "alpha": self.initial_alpha,
            "temperature": self.temperature,
            "from_logits": self.from_logits,
        }

    @classmethod
    def from_config(cls, config):
        """Returns the distillation that `config` describes."""
        teacher = keras.saving.deserialize_keras_object(config["teacher"])
        return cls(**{**config, "teacher": teacher})

    def _logits(self, outputs):
        outputs = ops.cast(outputs, "float32")
        if self.from_logits:
            return outputs
        return ops.log(ops.maximum(outputs, keras.config.epsilon()))
