"""Compiling and training of a sparse model."""

from collections.abc import Callable
from typing import Any

import keras

from tf_lottery import _keras, hosts, optimizers
from tf_lottery._typing import Tensor
from tf_lottery.layers.penalties import penalizing


class TrainedWithParts(keras.Model):
    """A Keras model that trains another one together with the parts that make it sparse.

    A subclass has the attributes `model`, the model inside, `wrapper` and `parts`, and the method
    `check_kernels`, which raises an error if masks have no effect.
    """

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | None = "rmsprop",
        *args: Any,
        auto_scale_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        """Compiles like any Keras model, with the loss scaling that the wrapped model would get.

        Gates are excluded from weight decay. Call the optimizer's own
        `exclude_from_weight_decay` before, since it replaces the list of excluded weights. If
        gates have an optimizer of their own, the model's optimizer becomes a
        `keras.optimizers.MultiOptimizer` of both; one that is given is used as it is.
        """
        optimizer = self._with_own_optimizers(keras.optimizers.get(optimizer))
        # Keras would look at the dtype policy of this model, which is always float32.
        is_scaled = auto_scale_loss and self.model.dtype_policy.name == "mixed_float16"
        if is_scaled and optimizer is not None:
            scaled = keras.optimizers.LossScaleOptimizer
            if not isinstance(optimizer, scaled):
                optimizer = scaled(optimizer, name="loss_scale_optimizer")
        super().compile(optimizer, *args, auto_scale_loss=auto_scale_loss, **kwargs)
        undecayed = [variable for part in self.parts for variable in part.undecayed]
        if undecayed and self.optimizer is not None:
            optimizers.exclude_from_weight_decay(self.optimizer, undecayed)

    def _with_own_optimizers(self, optimizer):
        """Returns the optimizer together with those of the parts."""
        own = {k: v for part in self.parts for k, v in part.own_optimizers().items()}
        if not own or optimizer is None:
            return optimizer
        inner = [optimizer, *optimizers.inner_optimizers(optimizer)]
        if any(hasattr(found, "optimizers") for found in inner):
            return optimizer
        if len(inner) > 1:
            raise ValueError(
                "Argument `optimizer` must be a plain optimizer if gates have one of their own; "
                "`auto_scale_loss=True` scales the loss of both. "
                f"Received: optimizer={optimizer.name!r}, with another one inside"
            )
        by_path = keras.optimizers.OptimizerMap(optimizer, own)
        return keras.optimizers.MultiOptimizer(by_path)

    def compile_from_config(self, config: dict) -> None:
        """Compiles with a saved configuration. Keras does not do so if `compile` is overridden."""
        # A saved optimizer already includes its loss scaling.
        config = {**keras.saving.deserialize_keras_object(config), "auto_scale_loss": False}
        self.compile(**config)
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force: bool = False) -> Any:
        """Creates the training function, after checks of kernels and masks."""
        self._check_before_use()
        return super().make_train_function(force)

    def make_test_function(self, force: bool = False) -> Any:
        """Creates the evaluation function, after checks of kernels and masks."""
        self._check_before_use()
        return super().make_test_function(force)

    def make_predict_function(self, force: bool = False) -> Any:
        """Creates the prediction function, after checks of kernels and masks."""
        self._check_before_use()
        return super().make_predict_function(force)

    def _check_before_use(self):
        self.check_kernels()
        self.wrapper.check_copy()

    @property
    def losses(self) -> list[Tensor]:
        """List of the losses that layers add, and of the penalties of regularizers.

        Regularizers of kernels see zeros where weights are pruned, as in the model that `tfl.strip`
        returns; those of soft gates see the kernels without their gates. If this model is a part of
        another one, the other's losses have the penalties of the stored weights.
        """
        with penalizing(self.wrapper.penalized()):
            return super().losses

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Computes the loss like any Keras model, with the changes that parts make to it."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        parts = [part for part in self.parts if part.changes_loss]
        if not training or not parts:
            return loss
        # Parts change only the data loss, not the losses that layers add, such as regularizers.
        added = sum(_keras.scaled_for_replicas(self, added) for added in self.losses)
        data_loss = loss - added
        for part in parts:
            data_loss = part.change_loss(data_loss, x, y, y_pred)
        return data_loss + added

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains like any Keras model, and then writes zeros where weights are pruned.

        An optimizer with momentum can move the stored values of pruned weights, without effect on
        what the model computes. See `keras.Model.fit`.

        Raises:
            ValueError: If the model is not compiled, or on several workers of `tf.distribute`.
        """
        self._check_compiled("fit")
        hosts.check_strategy(self)
        # Set in this way, Keras does not track the list as state of the model.
        pending = self.__dict__["_after_fit"] = []
        try:
            history = super().fit(*args, **kwargs)
        finally:
            del self.__dict__["_after_fit"]
        if not self.selection.is_soft:
            self.apply_masks()
        for function in pending:
            function()
        return history

    def call_after_fit(self, function: Callable[[], None]) -> None:
        """Calls a function after all callbacks have ended, or at once if no `fit` is running.

        Callbacks can restore weights when training ends, after other callbacks have ended.

        Args:
            function: Function without arguments.
        """
        pending = self.__dict__.get("_after_fit")
        function() if pending is None else pending.append(function)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates like any Keras model; see `keras.Model.evaluate`.

        Raises:
            ValueError: If the model is not compiled.
        """
        self._check_compiled("evaluate")
        return super().evaluate(*args, **kwargs)

    def _check_compiled(self, method):
        if not self.compiled:
            raise ValueError(
                f"Call `compile` of the sparse model before `{method}`, even if the model inside "
                "is compiled, and again after adding or removing tweaks with weights. "
                f"Received: {self.name!r}, which is not compiled"
            )
