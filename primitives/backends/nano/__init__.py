"""The one door to `nano_omni`: its model as a backend, its rooms, prompts and photos as problems."""

from primitives.backends.nano.model import Nano, UnwaryNano
from primitives.backends.nano.photo_sets import depths, edits, views, walks
from primitives.backends.nano.prompt_set import prompts
from primitives.backends.nano.rooms import rooms

__all__ = ["Nano", "UnwaryNano", "depths", "edits", "prompts", "rooms", "views", "walks"]
