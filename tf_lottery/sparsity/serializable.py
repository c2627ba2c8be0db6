"""The base class of schedules and patterns, values that Keras can serialize."""

import dataclasses
from typing import Self


class Serializable:
    """Base of frozen dataclasses whose configuration is their fields."""

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """Returns the object that `config` describes."""
        return cls(**config)
