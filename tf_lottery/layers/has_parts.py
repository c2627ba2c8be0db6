"""A layer with a list of parts."""

import keras

from tf_lottery import _keras
from tf_lottery.layers.part import AnyPart, Part, Selection


class HasParts(_keras.SavesListedVariables):
    """A Keras layer that a selection and other parts change.

    A subclass has the attributes `parts`, a list of `Part`, the selection first, and `kernels`.
    """

    @property
    def selection(self) -> Selection:
        """The `Selection`, which decides which weights are kept."""
        return self.parts[0]

    def find_part(self, kind: type[AnyPart]) -> AnyPart | None:
        """Returns the part of a given class, or `None`.

        Args:
            kind: Subclass of `Part`.
        """
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def listed_variables(self) -> dict[str, keras.Variable]:
        """Returns a dict of names to the variables of all parts, for `tf.train.Checkpoint`."""
        return {
            f"{part.name}_{i}": variable
            for part in self.parts
            for i, variable in enumerate(part.variables)
        }

    def add_part(self, part: Part) -> None:
        """Adds a part, and creates its variables once the kernels exist.

        Args:
            part: A `Part`, which is no `Selection`, since there is exactly one.

        Raises:
            ValueError: If it is a `Selection`, or was added before.
        """
        if isinstance(part, Selection) or any(part is other for other in self.parts):
            raise ValueError(
                "Argument `part` must be a new `tf_lottery.layers.Part`, and no `Selection`. "
                f"Received: {part!r}"
            )
        # `build` does it for the parts that exist by then.
        if self.built:
            part.create_variables(self.kernels)
        self._set_parts([*self.parts, part])

    def remove_part(self, part: Part) -> None:
        """Removes a part.

        Args:
            part: One of `parts`, not the selection.

        Raises:
            ValueError: If it is the selection or no part of this layer.
        """
        if isinstance(part, Selection) or not any(part is other for other in self.parts):
            raise ValueError(
                f"Argument `part` must be one of the parts of {self.name!r}, and no `Selection`. "
                f"Received: {part!r}"
            )
        self._set_parts([other for other in self.parts if other is not part])

    def _set_parts(self, parts):
        parts = sorted(parts, key=lambda part: part.order)
        _keras.replace_sublayers(self, "parts", parts)
