"""Janus, a model that reads pictures, writes text and rolls out pictures as tokens: see `Janus`."""

from primitives.backends.janus.backend import Janus

__all__ = ["Janus"]
