"""What a harness sets and a pipeline does not heed, said once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_said: set[tuple[str, str]] = set()


def warn_of(harness: str, given: Mapping[str, Any], harmless: Mapping[str, Any]) -> None:
    """Warn, once a setting, of those among `given` that ask for something. harmless: values that do not; None
    and False never do."""
    for name, value in given.items():
        asks = value is not None and value is not False and value != harmless.get(name)
        if asks and (harness, name) not in _said:
            _said.add((harness, name))
            logging.getLogger("unroller").warning(
                "%s sets %s=%r, which unroller's pipelines do not heed", harness, name, value
            )
