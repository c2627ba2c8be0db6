"""Replace rectifiers by smooth activations."""

from tf_lottery._keras import all_layers
from tf_lottery.checks import choice, number_above
from tf_lottery.layers.soft_activations import ACTIVATIONS, SoftActivations, max_value_of
from tf_lottery.model import SparseModel, check_sparse_model
from tf_lottery.tweaks import add_tweak, remove_tweak


def soft_activations(
    model: SparseModel, activation: str = "swish", beta: float | None = None
) -> SoftActivations:
    """Replaces the rectifiers of a sparse model by a smooth function while it retrains.

    These are the soft neurons of "Spending Your Winning Lottery Better After Drawing It"
    (arXiv:2101.03255) and "Training Your Sparse Neural Network Better with Any Mask"
    (arXiv:2206.12755): sparse networks lose gradients where rectifiers are flat. All `ReLU`
    layers and `activation="relu"` and `"relu6"` arguments are replaced, at any depth; calls
    such as `keras.ops.relu(x)` in the code of a model are not.

    The smooth function is `f(beta x) / beta`. `callbacks.ActivationAnnealing` raises `beta`
    and ends with exact rectifiers. Without it the smooth function stays: `tfl.strip` then
    writes it into the layers.

    Args:
        model: A `SparseModel`. Its wrapped model is not changed.
        activation: `"swish"`, `"pswish"` (a swish that starts at `beta=2`), `"gelu"`,
            `"mish"`, `"elu"` or `"softplus"`. Defaults to `"swish"`.
        beta: Float > 0, the slope to start from: the larger, the nearer to the rectifier.
            Defaults to `None`: 1, for `"pswish"` 2.

    Returns:
        The part `SoftActivations` of the model, with a list `layer_names` of the layers whose
        rectifiers it replaces.

    Raises:
        ValueError: If an argument is outside its range, the model has no rectifiers or
            has soft activations already.

    Example:

    >>> tfl.retrain.soft_activations(convolutional, "swish").layer_names
    ['stem', 'conv_1', 'conv_2']
    """
    check_sparse_model(model)
    choice("activation", activation, tuple(ACTIVATIONS))
    if beta is not None:
        number_above("beta", beta, 0)
    targets = find_rectifiers(model)
    if not targets:
        raise ValueError(
            "Argument `model` must have rectifiers, `ReLU` layers or layers with "
            f"`activation='relu'`. Received: {model.name!r}, which has none"
        )
    return add_tweak(model, SoftActivations(activation, targets, beta))


def remove_soft_activations(model: SparseModel) -> None:
    """Restores the rectifiers of a sparse model.

    Args:
        model: A `SparseModel`. After `callbacks.ActivationAnnealing` its outputs stay the
            same; else they change. Nothing happens if it has no soft activations.

    Raises:
        ValueError: If `model` is not a `SparseModel`.

    Example:

    >>> activations = tfl.retrain.soft_activations(sparse)
    >>> tfl.retrain.remove_soft_activations(sparse)
    """
    remove_tweak(model, SoftActivations)


def find_rectifiers(model):
    """Finds the layers that are rectifiers or have one as their activation.

    Args:
        model: A `SparseModel`.

    Returns:
        List of dicts, as `SoftActivations` takes them.
    """
    targets = []
    for index, layer in enumerate(all_layers(model.model)):
        # From `vars`, since recurrent layers show their cell's activation as a property.
        found = max_value_of(layer), max_value_of(vars(layer).get("activation"))
        if found == (False, False):
            continue
        is_layer = found[0] is not False
        max_value = found[0] if is_layer else found[1]
        targets.append(
            {
                "name": layer.name,
                "index": index,
                "is_layer": is_layer,
                "max_value": max_value,
            }
        )
    return targets
