"""Names for type hints."""

from typing import Any

# A tensor of the current backend. They have no common class.
Tensor = Any
