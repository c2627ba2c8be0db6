"""Private parts of Keras' layers that TensorFlow's checkpoints use."""

import keras


class SavesListedVariables(keras.layers.Layer):
    """A layer whose variables `tf.train.Checkpoint` saves also if they are in lists.

    Reason: TensorFlow saves what is an attribute of a layer. What a Keras layer has in lists, it
    leaves out in silence, and there is no public way to add it.
    """

    def listed_variables(self) -> dict[str, keras.Variable]:
        """Returns a dict of names, which must not contain a slash, to the variables in lists."""
        raise NotImplementedError

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        return {**children, **self.listed_variables()} if save_type == "checkpoint" else children
