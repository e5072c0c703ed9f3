"""Processors of models that read videos, too, made without what prepares those: transformers has that with
torchvision alone, and pictures and text do not need it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def without_videos(transformers: Any, folder: Path, named: str) -> Any:
    """The processor of class `named` in a folder, with its own settings and chat template, and no video
    processor. Raises whatever transformers does where a part of it cannot be loaded."""
    pictures = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    kind = getattr(transformers, named)
    plain = {"apply_chat_template": transformers.ProcessorMixin.apply_chat_template}  # asks for no videos
    plain["check_argument_for_proper_class"] = lambda *_: None
    loose = type(kind.__name__, (kind,), plain)
    held, _ = loose.get_processor_dict(folder, local_files_only=True)
    parts = {"image_processor": pictures, "tokenizer": tokenizer, "video_processor": None}
    return loose.from_args_and_dict([], held, **parts)


def lacks_videos(error: BaseException) -> bool:
    """Whether an error says that videos cannot be prepared here."""
    return any(word in str(error).lower() for word in ("torchvision", "video processor"))


def named_in(folder: Path) -> str:
    """What a checkpoint itself says of its processor: "Qwen3VLProcessor", or "" where it says nothing."""
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        file = folder / name
        held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if named := held.get("processor_class"):
            return str(named)
    return ""


def command(error: BaseException) -> str:
    """The command that transformers says installs what is missing, or ""."""
    found = re.search(r"`(pip install [\w.\[\]=<>~-]+)`", str(error))
    return found[1] if found and isinstance(error, ImportError) else ""
