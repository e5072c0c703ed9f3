"""How lmms-eval finds the model: its entry point group `lmms_eval.models` names `manifest`.

lmms-eval loads every manifest when it is imported, so this module imports nothing by itself.
"""

# The harness is an extra.
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """The `ModelManifest` of `--model unroller`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="unroller", chat_class_path="primitives.harness.lmms_eval_model.Unroller")
