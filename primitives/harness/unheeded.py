"""What a harness sets and a pipeline does not heed, said once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_said: set[tuple[str, str]] = set()


HARMLESS = {
    "top_p": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "num_beams": 1,
    "best_of": 1,
    "use_cache": True,
}
"""Values that ask for nothing; None and False never do."""


def warn_of(harness: str, given: Mapping[str, Any]) -> None:
    """Warn, once a setting, of those among `given` that ask for something."""
    for name, value in given.items():
        asks = value is not None and value is not False and value != HARMLESS.get(name)
        if asks and (harness, name) not in _said:
            _said.add((harness, name))
            logging.getLogger("unroller").warning(
                "%s sets %s=%r, which unroller's pipelines do not heed", harness, name, value
            )
