"""Loading a chat model that reads pictures, and the processor that makes numbers of words and pictures.

What holds for every checkpoint, that it is whole, safe and found without a download, is checked in
`primitives.backends.checkpoints`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primitives.backends.checkpoints import Checkpoint, imported, opened, telling, torch_device, torch_dtype
from primitives.backends.processors import command, lacks_videos, named_in, without_videos
from unroller.faults import MissingCapability, PluginError

WANTED = "a model that reads pictures and text and writes text (transformers' AutoModelForImageTextToText)"

OTHERS = ("Pipeline", "Estimation", "Matching", "Detection", "Classification", "Segmentation")
"""How the names of classes end that are certainly something else."""

WHOLE = (
    "download the whole checkpoint, with tokenizer.json and preprocessor_config.json or processor_config.json"
)


@dataclass(frozen=True)
class Settings:
    """How a checkpoint is loaded; see `HFVLM` for what each setting means."""

    device: str
    dtype: str
    attn: str | None
    quantization: Any
    compile: bool


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in evaluation mode on its device, its processor, and the name of its folder."""

    model: Any
    processor: Any
    tokenizer: Any
    name: str


def found_at(path: Any, allow_pickle: bool) -> Checkpoint:
    """The checkpoint. Whether it is of the right kind is for transformers to say, when it is loaded: its list
    of kinds takes seconds to import. Raises MissingCapability, here for what is certainly none."""
    if path is None:
        raise MissingCapability(
            "the hf backend was given no checkpoint: name its folder, HFVLM('/models/…'), or set"
            " UNROLLER_HF_CHECKPOINT"
        )
    return opened(path, wanted=WANTED, accepts=_may_chat, allow_pickle=allow_pickle)


def _may_chat(kind: str) -> bool:
    return not kind.endswith(OTHERS)


def fingerprint(found: Checkpoint, settings: tuple[object, ...]) -> str:
    """Of weights and configs (see `Checkpoint.fingerprint`), chat template and tokenizer, and settings."""
    beside = sorted(f for pattern in ("*.jinja", "*.model") for f in found.folder.glob(pattern))
    return found.fingerprint(*settings, *((file.name, _digest(file.read_bytes())) for file in beside))


def _digest(content: bytes) -> str:
    from xxhash import xxh3_64_hexdigest

    return xxh3_64_hexdigest(content)


def load(found: Checkpoint, settings: Settings) -> Loaded:
    """The model and its processor. Raises MissingCapability for whatever stands in the way."""
    torch = imported("torch", "torch")
    transformers = imported("transformers", "transformers>=5.0")
    spread = settings.device == "balanced"
    device = None if spread else torch_device(settings.device)
    if found.kind not in _kinds(transformers):
        kind = found.kind or found.config.get("model_type") or "model of unknown kind"
        raise MissingCapability(
            f"{found.folder} holds a {kind}, and the hf backend needs {WANTED}, without code of the"
            " checkpoint's own: name another checkpoint, or another backend for this one"
        )
    processor, tokenizer = _processor(transformers, found)
    options: dict[str, Any] = {"dtype": torch_dtype(settings.dtype)}
    if settings.attn is not None:
        options["attn_implementation"] = settings.attn
    if settings.quantization is not None:
        options["quantization_config"] = _quantized(torch, transformers, settings.quantization)
    if spread or settings.quantization is not None:  # accelerate puts it there while loading
        imported("accelerate", "accelerate")
        options["device_map"] = "balanced" if spread else {"": device}
    with telling(found), _no_bars(transformers):
        model, told = _from_pretrained(transformers, found, options)
    missing = sorted(told["missing_keys"])
    if missing:  # transformers fills them with random numbers and goes on
        raise MissingCapability(
            f"{found.folder} lacks {len(missing)} of the weights of a {found.kind} ({missing[0]} …): it was"
            " not saved whole; download or convert it again"
        )
    if "device_map" not in options:
        model = model.to(device)
    if settings.compile:
        model.compile(dynamic=True)
    return Loaded(model.eval(), processor, tokenizer, found.folder.name)


def _from_pretrained(transformers: Any, found: Checkpoint, options: dict[str, Any]) -> tuple[Any, Any]:
    """The model, and what transformers has to say about it. Raises MissingCapability for settings that cannot
    be had here, and whatever else a checkpoint can make it raise."""
    try:
        return transformers.AutoModelForImageTextToText.from_pretrained(
            found.folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not found.pickled,
            output_loading_info=True,
            **options,
        )
    except (ImportError, ValueError) as error:
        if isinstance(error, ImportError) or "attn_implementation" in str(error):
            raise MissingCapability(
                f"{found.folder} cannot be loaded as asked ({_said(error)}): install what is missing, or"
                " choose another attn or quantization"
            ) from None
        raise


def _kinds(transformers: Any) -> set[str]:
    """The names of the classes that AutoModelForImageTextToText makes."""
    mapping = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    names: set[str] = set()
    for name in mapping.values():
        names.update([name] if isinstance(name, str) else name)
    return names


def _quantized(torch: Any, transformers: Any, asked: Any) -> Any:
    if not isinstance(asked, str):
        return asked
    if asked not in ("4bit", "8bit"):
        raise PluginError(
            f"no quantization is called {asked!r}: write '4bit', '8bit', or give a quantization config of"
            " transformers"
        )
    imported("bitsandbytes", "bitsandbytes")
    if asked == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)


# -------------------------------------------------------------------------------------------- processor


def _processor(transformers: Any, found: Checkpoint) -> tuple[Any, Any]:
    """The processor, with a chat template, and its tokenizer. Raises MissingCapability."""
    folder = found.folder
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        if not lacks_videos(error):
            raise _no_processor(folder, error) from None
        processor = _without_videos(transformers, found, error)
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or getattr(processor, "image_processor", None) is None:
        raise MissingCapability(
            f"{folder} has no processor for pictures and text, only a {type(processor).__name__}: {WHOLE}"
        )
    processor.chat_template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if not processor.chat_template:
        raise MissingCapability(
            f"{folder} has no chat template: choose a checkpoint that was trained to chat (an instruct"
            " model), or put its chat_template.jinja there"
        )
    return processor, tokenizer


def _without_videos(transformers: Any, found: Checkpoint, first: Exception) -> Any:
    """The processor, of which only pictures are asked here. Raises MissingCapability."""
    names = transformers.models.auto.processing_auto.PROCESSOR_MAPPING_NAMES
    try:
        named = names.get(found.config["model_type"]) or named_in(found.folder)
        return without_videos(transformers, found.folder, named)
    except Exception as error:
        told = error if command(error) and not lacks_videos(error) else first
        raise _no_processor(found.folder, told) from None


def _no_processor(folder: Path, error: Exception) -> MissingCapability:
    mend = WHOLE
    if "torchvision" in str(error).lower():
        mend = "install the torchvision that belongs to this torch"
    elif install := command(error):
        mend = f"install what it needs: {install}"
    return MissingCapability(f"{folder} has no processor that can be loaded ({_said(error)}): {mend}")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


class _no_bars:
    """No progress bars while weights load: the terminal is the command line's."""

    def __init__(self, transformers: Any) -> None:
        self.logging = transformers.utils.logging
        self.shown = self.logging.is_progress_bar_enabled()

    def __enter__(self) -> None:
        self.logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.logging.enable_progress_bar()
