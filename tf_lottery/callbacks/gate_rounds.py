"""Changes the gates of a model at the end of a round."""

import warnings

import numpy as np
from keras import ops

from tf_lottery.kernel_ranking import ranked_masks
from tf_lottery.optimizers import clear_slots, start_averages
from tf_lottery.sparsity import gates as gate_ops
from tf_lottery.ticket import Ticket


def reset_gates(gates, final_temperature):
    """Sets the gates to their initial values for the next round.

    Args:
        gates: The `Gates` of a model.
        final_temperature: Float, the temperature at the end of a round.
    """
    start = gates.gate.initial_value
    if gates.gate.stochastic:
        values = [gate_ops.shut_below(array, start) for array in gates.values]
    else:
        values = [gate_ops.reset(array, start, final_temperature) for array in gates.values]
    gates.set_values(values)


def forget_gates(training):
    """Resets the optimizer slots and averages of the gates, so that momentum does not move them.

    Args:
        training: A `Training` of a `SparseModel` with gates.
    """
    gates = training.model.selection.gates
    clear_slots(training.optimizer, training.trained_variables, gates)
    start_averages(training.optimizer, training.trained_variables)


def settle_gates(training):
    """Settles the gates permanently, also in the optimizer's averages of weights.

    Args:
        training: A `Training` of a `SparseModel` with gates.
    """
    training.model.apply_masks()
    forget_gates(training)
    training.clear_pruned_slots()


def keep_exactly(model, density):
    """Opens the gates with the highest values and closes the others.

    Args:
        model: A `SparseModel` with gates.
        density: Float, the share of gates to open.
    """
    values = dict(zip(model.kernels, model.selection.values, strict=True))
    everything = {path: np.ones(array.shape, bool) for path, array in values.items()}
    masks = list(
        ranked_masks(model, values, 1.0 - density, scope="global", masks=everything).values()
    )
    before = model.get_masks().values()
    forced = sum(np.count_nonzero(mask & ~old) for mask, old in zip(masks, before, strict=True))
    if forced > 0.5 * sum(map(np.count_nonzero, masks)):
        warnings.warn(
            f"{forced} of the gates that `exact_density` keeps open had closed, so the network "
            "differs from the one that was trained. Raise the `initial_value` of the `SoftGate`, "
            "or train the network again.",
            stacklevel=4,
        )
    model.selection.open_gates(masks)


def hard_weights(model):
    """Returns the weights of the network with hard gates, with the scale in the kernels.

    Args:
        model: A `SparseModel` with gates.
    """
    weights = Ticket.from_model(model).weights
    scale = ops.convert_to_numpy(model.selection.scale)
    return {**weights, **{path: scale * weights[path] for path in model.kernels}}
