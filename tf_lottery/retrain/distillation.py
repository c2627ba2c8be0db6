"""Train a sparse model on the outputs of a teacher."""

import keras

from tf_lottery.checks import number_above
from tf_lottery.layers.distillation import Distillation
from tf_lottery.model import SparseModel, check_sparse_model
from tf_lottery.retrain.outputs import check_from_logits
from tf_lottery.tweaks import add_tweak, remove_tweak


def distill(
    student: SparseModel,
    teacher: keras.Model,
    alpha: float = 0.474,
    temperature: float = 5.0,
    from_logits: bool = True,
) -> Distillation:
    """Lets a sparse model learn from a teacher, usually the dense network.

    "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), which the first version
    of "Spending Your Winning Lottery Better" (arXiv:2101.03255) applies to tickets. In
    training the loss becomes

        (1 - alpha) * loss + alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)),

    where both terms are means over all examples and the divergence is that of
    `keras.distillation.LogitsDistillation`. Sample weights apply to the first term only, and
    terms of regularizers are added as usual. The official code for CIFAR also divides the
    divergence by the number of classes. Evaluation reports the model's own loss.
    `callbacks.DistillationStop` ends distillation after some epochs, as the authors do for
    ImageNet; from then on the teacher costs no time.

    Args:
        student: A `SparseModel`.
        teacher: A built `keras.Model` with inputs and outputs like the student's. Its
            `trainable` is set to `False`. It is saved with the student until
            `remove_distillation` is called; the model that `tfl.strip` returns is without it.
        alpha: Float in [0, 1], the weight of the teacher. Defaults to `0.474`, with which the
            two terms are as in the official code for CIFAR-10: there 0.9 and 0.1, but the
            divergence is divided by the 10 classes, and 0.9 * 25 / 10 to 0.1 is as 0.474 * 25
            to 0.526.
        temperature: Float > 0, `T`: 5 for CIFAR, 4 for ImageNet. Defaults to `5.0`.
        from_logits: Whether the outputs of both are logits and not probabilities. Defaults
            to `True`.

    Returns:
        The part `Distillation` of the student.

    Raises:
        ValueError: If an argument is outside its range, teacher and student share weights or
            differ in the shapes of their outputs, or the student has a teacher already.

    Example:

    >>> distillation = tfl.retrain.distill(sparse, dense)
    >>> sparse.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = sparse.fit(x, y, verbose=0)
    >>> tfl.retrain.remove_distillation(sparse)
    """
    check_sparse_model(student, "student")
    number_above("temperature", temperature, 0)
    if number_above("alpha", alpha, 0, inclusive=True) > 1:
        raise ValueError(f"Argument `alpha` must be in [0, 1]. Received: alpha={alpha!r}")
    if not isinstance(teacher, keras.Model) or not teacher.built:
        raise ValueError(
            f"Argument `teacher` must be a built `keras.Model`. Received: teacher={teacher!r}"
        )
    shared = {id(v) for v in student.model.variables} & {id(v) for v in teacher.variables}
    if shared:
        raise ValueError(
            "Argument `teacher` must not share weights with the student, which training changes; "
            "load or clone it, and copy its weights. "
            f"Received: {teacher.name!r}, which shares {len(shared)} variables"
        )
    check_from_logits(student.model, from_logits)
    expected, received = _output_shapes(student.model), _output_shapes(teacher)
    if any(shape[-1:] == (1,) for shape in [*expected, *received]):
        raise ValueError(
            "Argument `student` must have outputs of at least two classes, for the softmax of the "
            f"divergence. Received: {student.name!r} with outputs of shapes {expected}"
        )
    if expected and received and expected != received:
        raise ValueError(
            "Argument `teacher` must have the outputs of the student, of shapes "
            f"{expected}. Received: {teacher.name!r} with shapes {received}"
        )
    return add_tweak(student, Distillation(teacher, alpha, temperature, from_logits))


def remove_distillation(model: SparseModel) -> None:
    """Removes the teacher of a sparse model.

    Args:
        model: A `SparseModel`. Nothing happens if it has none.

    Raises:
        ValueError: If `model` is not a `SparseModel`.

    Example:

    >>> distillation = tfl.retrain.distill(sparse, dense)
    >>> tfl.retrain.remove_distillation(sparse)
    """
    remove_tweak(model, Distillation)


def _output_shapes(model):
    """Returns the shapes of a model's outputs without the batch axis, empty if unknown."""
    return [tuple(output.shape[1:]) for output in getattr(model, "outputs", None) or ()]
