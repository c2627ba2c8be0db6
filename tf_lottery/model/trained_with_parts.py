"""How a sparse model is compiled and trained."""

import keras

from tf_lottery import _keras, optimizers


class TrainedWithParts(keras.Model):
    """A Keras model that trains another one together with the parts that make it sparse.

    A subclass has the model inside as `model`, the wrapper as `wrapper`, its parts as `parts`, and
    `check_kernels`, which raises where masks no longer hold.
    """

    def compile(self, optimizer="rmsprop", *args, auto_scale_loss=True, **kwargs):
        """Compiles as any Keras model, with the loss scale that the wrapped model would get.

        Gates are left out of weight decay. Call the optimizer's `exclude_from_weight_decay`
        before, since it replaces the list.
        """
        optimizer = keras.optimizers.get(optimizer)
        # Keras asks the model's own dtype policy, which is float32, so that weights are read as
        # they are.
        is_scaled = auto_scale_loss and self.model.dtype_policy.name == "mixed_float16"
        if is_scaled and optimizer is not None:
            scaled = keras.optimizers.LossScaleOptimizer
            if not isinstance(optimizer, scaled):
                optimizer = scaled(optimizer, name="loss_scale_optimizer")
        super().compile(optimizer, *args, auto_scale_loss=auto_scale_loss, **kwargs)
        undecayed = [variable for part in self.parts for variable in part.undecayed]
        if undecayed and self.optimizer is not None:
            optimizers.exclude_from_weight_decay(self.optimizer, undecayed)

    def compile_from_config(self, config):
        """Compiles as `config` describes; Keras leaves it to models with their own `compile`."""
        # The optimizer was saved with its loss scale if it has one.
        config = {**keras.saving.deserialize_keras_object(config), "auto_scale_loss": False}
        self.compile(**config)
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force=False):
        """Makes the function of a training step, after checks of kernels and masks."""
        self._check_before_use()
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        """Makes the function of a step of evaluation, after checks of kernels and masks."""
        self._check_before_use()
        return super().make_test_function(force)

    def make_predict_function(self, force=False):
        """Makes the function of a step of prediction, after checks of kernels and masks."""
        self._check_before_use()
        return super().make_predict_function(force)

    def _check_before_use(self):
        self.check_kernels()
        self.wrapper.check_copy()

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the loss as any Keras model, changed by tweaks of retraining."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        parts = [part for part in self.parts if part.changes_loss]
        if not training or not parts:
            return loss
        # What layers add, as regularizers do, stays as it is.
        added = sum(_keras.scaled_for_replicas(self, added) for added in self.losses)
        of_data = loss - added
        for part in parts:
            of_data = part.change_loss(of_data, x, y, y_pred)
        return of_data + added

    def fit(self, *args, **kwargs):
        """Trains as any Keras model; see `keras.Model.fit`.

        Raises:
            ValueError: If the model is not compiled.
        """
        self._check_compiled("fit")
        return super().fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """Evaluates as any Keras model; see `keras.Model.evaluate`.

        Raises:
            ValueError: If the model is not compiled.
        """
        self._check_compiled("evaluate")
        return super().evaluate(*args, **kwargs)

    def _check_compiled(self, method):
        if not self.compiled:
            raise ValueError(
                f"Call `compile` of the sparse model before `{method}`, also if the model inside "
                "is compiled, and again after tweaks with weights were added or removed. "
                f"Received: {self.name!r}, which is not compiled"
            )
