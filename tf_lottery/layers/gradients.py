"""Values and gradients of functions of tensors, outside any training step."""

import contextlib
import functools

import keras
from keras import ops

from tf_lottery import hosts


def value_and_gradients(function, tensors, *args):
    """Computes a function and its gradients with respect to a list of tensors.

    Calls can be nested for higher derivatives.

    Args:
        function: Function `(tensors, *args)` that returns a floating point scalar.
        tensors: List of floating point tensors.
        *args: Passed to the function and not differentiated.

    Returns:
        The value, and a list of gradients with the shapes of `tensors`. The gradient is zero
        for a tensor that does not affect the value.

    Raises:
        ValueError: If the backend is not TensorFlow, JAX or PyTorch.

    Example:

    >>> value, gradients = value_and_gradients(lambda xs: ops.sum(xs[0] ** 2), [ops.ones((2,))])
    >>> float(value), ops.convert_to_numpy(gradients[0])
    (2.0, array([2., 2.], dtype=float32))
    """
    tensors = list(tensors)
    backend = _backend()
    if backend == "jax":
        import jax

        return jax.value_and_grad(function)(tensors, *args)
    if backend == "torch":
        return _value_and_gradients_on_torch(function, tensors, *args)
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = function(tensors, *args)
    gradients = tape.gradient(value, tensors, unconnected_gradients="zero")
    # Gradients of lookups, such as embeddings, are `tf.IndexedSlices`.
    return value, [tf.convert_to_tensor(gradient) for gradient in gradients]


def hessian_products(function, tensors, directions, *args):
    """Computes Hessian-vector products: how the gradients of a function change in a direction.

    On JAX this uses forward differentiation and costs little more than a gradient. On TensorFlow
    and PyTorch, and for functions with a custom gradient, it differentiates backwards twice.

    Args:
        function: Function `(tensors, *args)` that returns a floating point scalar.
        tensors: List of floating point tensors.
        directions: List of tensors with the shapes and data types of `tensors`.
        *args: Passed to the function and not differentiated.

    Returns:
        List of tensors with the shapes of `tensors`, the product of the Hessian and
        `directions`.

    Raises:
        ValueError: If the backend is not TensorFlow, JAX or PyTorch.

    Example:

    >>> x, direction = ops.ones((2,)), ops.convert_to_tensor([1.0, -1.0])
    >>> products = hessian_products(lambda xs: ops.sum(xs[0] ** 3), [x], [direction])
    >>> ops.convert_to_numpy(products[0])
    array([ 6., -6.], dtype=float32)
    """

    def gradients(tensors):
        return value_and_gradients(function, tensors, *args)[1]

    def directional_derivative(tensors):
        pairs = zip(gradients(tensors), directions, strict=True)
        return sum(ops.sum(gradient * direction) for gradient, direction in pairs)

    if _backend() == "jax":
        import jax

        # JAX cannot differentiate functions with a custom gradient forward.
        with contextlib.suppress(TypeError):
            return jax.jvp(gradients, (list(tensors),), (list(directions),))[1]
    return value_and_gradients(directional_derivative, tensors)[1]


def compile_function(function):
    """Compiles a function of tensors with `tf.function` or `jax.jit`.

    On PyTorch the function is not compiled and runs eagerly, as in Keras' `fit` by default.

    Args:
        function: Function of tensors and nested tensors. It may read variables but not write
            them, and their values must not change between calls.

    Returns:
        The compiled function. On PyTorch, `function` itself.

    Raises:
        ValueError: If the backend is not TensorFlow, JAX or PyTorch.
    """
    backend = _backend()
    if backend == "jax":
        import jax

        return _compile_for_hosts(function) if hosts.is_shared() else jax.jit(function)
    if backend == "torch":
        return function
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


def _compile_for_hosts(function):
    """Compiles a function for several JAX processes, in which constants may not be shared arrays.

    The values of variables, which would be constants, become arguments.
    """
    import jax
    from jax.extend import core

    compiled = {}

    def compile_with(args):
        traced, outputs = jax.make_jaxpr(function, return_shape=True)(*args)

        def run(values, tensors):
            return core.jaxpr_as_fun(core.ClosedJaxpr(traced.jaxpr, values))(*tensors)

        return functools.partial(jax.jit(run), traced.consts), jax.tree.structure(outputs)

    def call(*args):
        tensors, structure = jax.tree.flatten(args)
        key = structure, *((tensor.shape, tensor.dtype) for tensor in tensors)
        if key not in compiled:
            compiled[key] = compile_with(args)
        run, outputs = compiled[key]
        return jax.tree.unflatten(outputs, run(tensors))

    return call


def custom_gradient(function):
    """Gives a function a gradient, like `keras.ops.custom_gradient`, also with several outputs.

    Args:
        function: Function of tensors that returns a tuple of tensors, and a function from their
            gradients to the gradients of its arguments, a tuple.

    Returns:
        Function of the same tensors that returns the tuple of tensors.

    Raises:
        ValueError: If the backend is not TensorFlow, JAX or PyTorch.

    Example:

    >>> double = custom_gradient(lambda x: ((x, 2.0 * x), lambda one, two: (one + 2.0 * two,)))
    >>> _, gradients = value_and_gradients(lambda xs: double(xs[0])[1], [ops.ones(())])
    >>> float(gradients[0])
    2.0
    """
    backend = _backend()
    if backend == "torch":
        return _custom_gradient_on_torch(function)
    if backend == "jax":
        import jax

        def with_one_argument(*tensors):
            outputs, backward = function(*tensors)
            return outputs, lambda upstream: backward(*upstream)

        return jax.custom_gradient(with_one_argument)
    import tensorflow as tf

    def with_dense_gradients(*tensors):
        outputs, backward = function(*tensors)
        # Gradients of lookups, such as embeddings, are `tf.IndexedSlices`.
        return outputs, lambda *upstream: backward(*map(tf.convert_to_tensor, upstream))

    # Variables on several devices are read here, since a function that reads them must return their
    # gradients separately.
    differentiable = tf.custom_gradient(with_dense_gradients)
    return lambda *tensors: differentiable(*map(tf.convert_to_tensor, tensors))


def _custom_gradient_on_torch(function):
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            outputs, ctx.compute_gradients = function(*tensors)
            return outputs

        @staticmethod
        def backward(ctx, *upstream):
            return ctx.compute_gradients(*upstream)

    return Function.apply


def _value_and_gradients_on_torch(function, tensors, *args):
    import torch

    # If an argument has a `grad_fn`, an outer call computed it and will differentiate the gradients
    # again. Parameters have none.
    given = [*tensors, *keras.tree.flatten(args)]
    is_nested = any(torch.is_tensor(x) and x.grad_fn is not None for x in given)
    with torch.enable_grad():
        if not is_nested:
            tensors = [tensor.detach() for tensor in tensors]
        sources = [x if x.requires_grad else x.detach().requires_grad_() for x in tensors]
        # A view has a `grad_fn`, by which a nested call detects that it is nested.
        sources = [source.view_as(source) for source in sources]
        value = ops.convert_to_tensor(function(sources, *args))
        if value.requires_grad:
            gradients = torch.autograd.grad(
                value, sources, create_graph=is_nested, allow_unused=True, materialize_grads=True
            )
        else:
            gradients = [torch.zeros_like(source) for source in sources]
    if not is_nested:
        return value.detach(), [gradient.detach() for gradient in gradients]
    return value, list(gradients)


def _backend():
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax", "torch"):
        raise ValueError(
            "Gradients need the Keras backend 'tensorflow', 'jax' or 'torch'; set KERAS_BACKEND. "
            f"Received: {backend!r}"
        )
    return backend
