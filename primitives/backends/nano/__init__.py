"""The one door to `nano_omni`: its model as a backend, and its rooms as problems."""

from primitives.backends.nano.model import Nano, UnwaryNano
from primitives.backends.nano.rooms import rooms

__all__ = ["Nano", "UnwaryNano", "rooms"]
