"""The base class of schedules and patterns, values that Keras can serialize."""

import dataclasses


class Serializable:
    """Base of frozen dataclasses whose configuration is their fields."""

    def get_config(self):
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        """Returns the object that `config` describes."""
        return cls(**config)
