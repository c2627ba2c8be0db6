"""Who trains a sparse model: it itself, or a model that it is a part of."""

import dataclasses

import keras

from tf_lottery import _keras
from tf_lottery.model import SparseModel, check_sparse_model


@dataclasses.dataclass(frozen=True)
class Training:
    """A sparse model, the model that is fitted, and the optimizer of the sparse model's weights.

    Args:
        model: The `SparseModel`.
        fitted: The `keras.Model` that `fit` was called on, of which `model` is all or a part.
        optimizer: The Keras optimizer whose steps count, or `None`.
    """

    model: SparseModel
    fitted: keras.Model
    optimizer: keras.optimizers.Optimizer | None

    @classmethod
    def of(cls, model):
        """Returns the training of a sparse model that is fitted itself.

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
        """Creates the optimizer's variables, unless they are there."""
        if not self.optimizer.built:
            self.optimizer.build(self.trained_variables)

    def forget_functions(self):
        """Lets Keras make the function of a training step anew."""
        self.fitted.train_function = None

    def make_train_function(self):
        """Makes the function of a training step, which takes in what is trained now."""
        _keras.track_parameters(self.fitted)
        # A loop without `fit` has its own.
        if self.fitted.compiled:
            self.fitted.make_train_function(force=True)


def find_training(fitted, sparse_model=None, optimizer=None):
    """Finds out who trains a sparse model.

    Args:
        fitted: The model that `fit` was called on.
        sparse_model: The `SparseModel` that a callback works on. Defaults to `None`: `fitted`.
        optimizer: The optimizer that trains its weights. Defaults to `None`: it is looked for
            in `fitted`.

    Returns:
        A `Training`.

    Raises:
        ValueError: If the fitted model is not sparse and none is named, or does not contain the
            one that is named, or if the optimizer cannot be found or trains other weights.
    """
    if sparse_model is None:
        if not isinstance(fitted, SparseModel) and (inside := _sparse_models(fitted)):
            raise ValueError(
                "Argument `sparse_model` must name the sparse model to work on, since the model "
                f"that is fitted, {fitted.name!r}, contains {[m.name for m in inside]} and is not "
                "one itself. Received: sparse_model=None"
            )
        sparse_model = check_sparse_model(fitted)
    check_sparse_model(sparse_model, "sparse_model")
    if not any(layer is sparse_model for layer in _keras.all_layers(fitted)):
        raise ValueError(
            "Argument `sparse_model` must be a part of the model that is fitted, "
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
    """Returns the optimizer that trains the weights of a model that is a part of another."""
    if type(fitted).train_step is keras.Model.train_step:
        return fitted.optimizer
    # A training step of its own can have several optimizers, and that of `compile` rest.
    found = [v for v in vars(fitted).values() if isinstance(v, keras.optimizers.Optimizer)]
    fitting = [o for o in found if o.built and _trains(o, model)]
    chosen = fitting or found
    if len(chosen) == 1:
        return chosen[0]
    raise ValueError(
        f"Argument `optimizer` must be given: which of the optimizers of {fitted.name!r} trains "
        f"{model.name!r} shows only once it has made a step. Received: optimizer=None, with "
        f"{[o.name for o in chosen]} to choose from"
    )


def _trains(optimizer, model):
    """Returns whether a built optimizer trains weights of a model, if any are trained at all."""
    trained = model.trainable_variables
    return not trained or any(_keras.trains(optimizer, variable) for variable in trained)
