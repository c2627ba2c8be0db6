"""Finds the model and optimizer that train a sparse model, alone or inside another model."""

import dataclasses
from collections.abc import Callable

import keras

from tf_lottery import _keras, hosts
from tf_lottery.model import SparseModel, check_sparse_model
from tf_lottery.optimizers import build_optimizer, clear_slots, inner_optimizers


@dataclasses.dataclass(frozen=True)
class TrainFunctions:
    """Two training functions that Keras made for one model, in two states of the model.

    Args:
        usual: Function, the one that the model had.
        switched: Function, the one that was made in the other state.
    """

    usual: Callable
    switched: Callable


@dataclasses.dataclass(frozen=True)
class Training:
    """A sparse model, the model that is fitted, and the optimizer of the sparse model's weights.

    Args:
        model: The `SparseModel`.
        fitted: The `keras.Model` that `fit` was called on. It is or contains `model`.
        optimizer: The Keras optimizer that trains `model`, whose steps are counted, or `None`.
    """

    model: SparseModel
    fitted: keras.Model
    optimizer: keras.optimizers.Optimizer | None

    @classmethod
    def of(cls, model):
        """Returns the `Training` of a sparse model whose own `fit` is called.

        Args:
            model: A `SparseModel`.
        """
        return cls(model, model, model.optimizer)

    @property
    def trained_variables(self):
        """List of the variables that the optimizer trains, in its order."""
        own = getattr(self.fitted, "optimizer", None)
        return (self.fitted if own is self.optimizer else self.model).trainable_variables

    def build_optimizer(self):
        """Creates the optimizer's variables, unless they exist.

        Raises:
            ValueError: If the optimizer is not built and is not that of the fitted model.
        """
        build_optimizer(self.optimizer, self.fitted)

    def clear_pruned_slots(self):
        """Resets the optimizer's slots of pruned weights, so that their stored values stay zero.

        Momentum of earlier steps would move them. Masks hide that, but not from what looks at a
        stored kernel as a whole, such as Keras' constraints and the norms of some optimizers.
        """
        masks, kernels = self.model.get_masks(), self.model.kernels
        places = [~masks[path] for path in kernels]
        clear_slots(self.optimizer, self.trained_variables, list(kernels.values()), places)

    def make_train_function(self):
        """Creates the training function again, for the current trainable variables."""
        _keras.track_parameters(self.fitted)
        self._forget_evaluation()
        # A loop without `fit` has its own training function.
        if self.fitted.compiled:
            self.fitted.make_train_function(force=True)

    def switch_function(self, functions):
        """Replaces the training function, now that other variables are trained.

        TensorFlow keeps some memory of every function that it has ever compiled. Therefore the
        function of an earlier training is used again, unless Keras has made the usual one anew
        since then, as it does after `compile`.

        Args:
            functions: `TrainFunctions`, what the last call returned, or `None`.

        Returns:
            `TrainFunctions` for `switch_back`, or `None` outside of `fit`.
        """
        usual = self.fitted.train_function
        if functions is not None and functions.usual is usual:
            self.fitted.train_function = functions.switched
            self._forget_evaluation()
            return functions
        self.make_train_function()
        return None if usual is None else TrainFunctions(usual, self.fitted.train_function)

    def switch_back(self, functions):
        """Undoes `switch_function`.

        Args:
            functions: `TrainFunctions`, what `switch_function` returned, or `None`.
        """
        # Another callback may have changed what the model computes, and made a third function.
        is_switched = functions is not None and self.fitted.train_function is functions.switched
        self.fitted.train_function = functions.usual if is_switched else None
        self._forget_evaluation()

    def _forget_evaluation(self):
        """Lets Keras make the functions anew that JAX has compiled for other variables.

        With several devices they return every variable in a layout that is fixed for it.
        """
        if keras.backend.backend() == "jax" and keras.distribution.distribution() is not None:
            self.fitted.test_function = self.fitted.predict_function = None


def find_training(fitted, sparse_model=None, optimizer=None):
    """Finds the sparse model and the optimizer that trains it.

    Args:
        fitted: The model that `fit` was called on.
        sparse_model: The `SparseModel` that a callback works on. Defaults to `None`: `fitted`.
        optimizer: The optimizer that trains its weights. Defaults to `None`: the optimizer is
            found in `fitted`.

    Returns:
        A `Training`.

    Raises:
        ValueError: If `fitted` is not sparse and `sparse_model` is `None`, if `fitted` does not
            contain `sparse_model`, if the optimizer cannot be found or trains other weights, or if
            `fitted` is on several workers of `tf.distribute`.
    """
    hosts.check_strategy(fitted)
    if sparse_model is None:
        if not isinstance(fitted, SparseModel) and (inside := _sparse_models(fitted)):
            raise ValueError(
                "Argument `sparse_model` must name the sparse model to work on, since the fitted "
                f"model {fitted.name!r} is not sparse itself but contains the sparse models "
                f"{[m.name for m in inside]}. Received: sparse_model=None"
            )
        sparse_model = check_sparse_model(fitted)
    check_sparse_model(sparse_model, "sparse_model")
    if not any(layer is sparse_model for layer in _keras.all_layers(fitted)):
        raise ValueError(
            "Argument `sparse_model` must be a part of the fitted model, "
            f"{fitted.name!r}. Received: {sparse_model.name!r}, which is not"
        )
    if optimizer is None:
        optimizer = _find_optimizer(fitted, sparse_model)
    elif optimizer.built and not _trains(optimizer, sparse_model):
        raise ValueError(
            f"Argument `optimizer` must train the weights of {sparse_model.name!r}. Received: "
            f"{optimizer.name!r}, which was built for other weights"
        )
    return Training(sparse_model, fitted, optimizer)


def _sparse_models(model):
    return [layer for layer in _keras.all_layers(model) if isinstance(layer, SparseModel)]


def _find_optimizer(fitted, model):
    """Returns the optimizer in `fitted` that trains the weights of `model`."""
    if type(fitted).train_step is keras.Model.train_step:
        return fitted.optimizer
    # A custom `train_step` can use several optimizers, and may not use that of `compile`.
    found = optimizers_in(fitted)
    fitting = [o for o in found if o.built and _trains(o, model)]
    chosen = fitting or found
    if len(chosen) == 1:
        return chosen[0]
    raise ValueError(
        "Argument `optimizer` must be given: before the first training step it is unknown which "
        f"optimizer of {fitted.name!r} trains {model.name!r}. Received: optimizer=None, with the "
        f"optimizers {[o.name for o in chosen]}"
    )


def optimizers_in(model):
    """Returns the optimizers in a model's attributes, each once, without those inside others.

    Args:
        model: A `keras.Model`.
    """
    values = vars(model).values()
    found = {id(v): v for v in values if isinstance(v, keras.optimizers.Optimizer)}
    inside = {id(inner) for optimizer in found.values() for inner in inner_optimizers(optimizer)}
    return [optimizer for key, optimizer in found.items() if key not in inside]


def _trains(optimizer, model):
    """Returns whether a built optimizer trains a weight of a model, or the model trains none."""
    trained = model.trainable_variables
    return not trained or any(_keras.trains(optimizer, variable) for variable in trained)
