"""Several backends as one: who provides each capability, where each model lives, and what it may take."""

from primitives.backends.composite.backend import Composite
from primitives.backends.composite.ledger import Row

__all__ = ["Composite", "Row"]
