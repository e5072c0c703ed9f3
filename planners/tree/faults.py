"""What can go wrong with a tree file."""

from __future__ import annotations

from unroller.faults import UnrollerError


class TreeError(UnrollerError, ValueError):
    """A tree cannot be built as asked, is missing, truncated or of another version, or does not hold what
    it is asked for; the message says what to do."""
