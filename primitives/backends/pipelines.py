"""Pipelines of diffusers in a local folder: all their parts with all their weights, on a device, silent.

What holds for every checkpoint, that it is whole, safe and found without a download, is checked in
`primitives.backends.checkpoints`; which pipelines a backend works with is its own business.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from primitives.backends.checkpoints import Checkpoint, imported, opened, telling, torch_dtype
from primitives.backends.processors import without_videos
from unroller import progress
from unroller.faults import InputError, MissingCapability, PluginError

_WEIGHTS = re.compile(r"[^.]+(?:\.(\w+?))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)")

LARGEST = 8192
"""Pixels a side."""

DENOISERS = ("transformer", "unet", "prior")
"""The part whose dtype, as saved, is the pipeline's."""


def found_at(
    path: Any, wanted: str, accepts: Callable[[str], bool], allow_pickle: bool, variant: str | None
) -> Checkpoint:
    """The checkpoint, with a folder for each of its parts; `wanted` and `accepts` as for `opened`. Raises
    MissingCapability."""
    found = opened(path, wanted=wanted, accepts=accepts, allow_pickle=allow_pickle)
    lacking = sorted(name for name in parts_of(found) if not (found.folder / name).is_dir())
    if variant is not None and not any(f".{variant}" in file.name for file in found.weights):
        raise MissingCapability(
            f"{found.folder} has no weight files of the variant {variant!r}: leave variant out, or download"
            " them"
        )
    if lacking:
        raise MissingCapability(
            f"{found.folder} lacks parts of its {found.kind} ({', '.join(lacking)}): download it again, or,"
            " if it should go without, write null for it in model_index.json"
        )
    return found


def parts_of(found: Checkpoint) -> dict[str, tuple[str, str]]:
    """The library and class of each part of a pipeline, by name, without those that are left out."""
    pairs = ((n, c) for n, c in found.config.items() if isinstance(c, list) and len(c) == 2)
    return {name: (pair[0], pair[1]) for name, pair in pairs if all(isinstance(one, str) for one in pair)}


def fingerprint(found: Checkpoint, *settings: object) -> str:
    """Of weights and configs (see `Checkpoint.fingerprint`), of tokenizers, and of settings."""
    from xxhash import xxh3_64_hexdigest

    patterns = ("*/*.txt", "*/*.model", "*/*.jinja")
    beside = sorted(file for pattern in patterns for file in found.folder.glob(pattern))
    read = [(str(file.relative_to(found.folder)), xxh3_64_hexdigest(file.read_bytes())) for file in beside]
    return found.fingerprint(*settings, read)


def load(
    found: Checkpoint,
    device: Any,
    dtype: str,
    variant: str | None,
    offload: bool,
    whole: Collection[str] = (),
    **more: Any,
) -> Any:
    """The pipeline on its device, silent. whole: parts that stay in float32; more: further arguments of its
    `from_pretrained`. Raises MissingCapability for whatever stands in the way."""
    diffusers = imported("diffusers", "diffusers>=0.36")
    transformers = imported("transformers", "transformers>=5.0")
    if offload:
        imported("accelerate", "accelerate")
    wanted = _dtype(found, device, dtype)
    with telling(found), _quiet(diffusers, transformers):
        kind = getattr(diffusers, found.kind, None)
        if kind is None:
            raise MissingCapability(
                f"{found.folder} holds a {found.kind}, which diffusers {diffusers.__version__} does not have:"
                " pip install --upgrade diffusers"
            )
        parts = {
            name: _part(diffusers, transformers, found, name, _of(name, wanted, whole), variant)
            for name in parts_of(found)
            if (found.folder / name / "config.json").is_file()
        }
        parts |= _processors(transformers, found)
        given: dict[str, Any] = {name: part for name, part in parts.items() if part is not None} | more
        if find_spec("accelerate") is None:
            given["low_cpu_mem_usage"] = False
        pipe = kind.from_pretrained(str(found.folder), local_files_only=True, **given)
    tell_steps(pipe)
    if offload:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    return pipe.to(device)


def _of(name: str, wanted: Any, whole: Collection[str]) -> Any:
    return imported("torch", "torch").float32 if name in whole else wanted


def _part(
    diffusers: Any, transformers: Any, found: Checkpoint, name: str, dtype: Any, variant: str | None
) -> Any:
    """A part that has weights, all of them: the libraries would fill in for what is missing with random
    numbers. None where it is the pipeline's own business."""
    library, named = parts_of(found)[name]
    home = found.folder / name
    owner = {"diffusers": diffusers, "transformers": transformers}.get(library)
    kind = getattr(owner or getattr(diffusers.pipelines, library, None), named, None)
    if kind is None or not any(file.parent == home for file in found.weights):
        return None
    is_theirs = issubclass(kind, transformers.PreTrainedModel)
    options: dict[str, Any] = {"dtype": dtype} if is_theirs else {"torch_dtype": dtype}
    if not is_theirs and find_spec("accelerate") is None:
        options["low_cpu_mem_usage"] = False  # what it would do anyway, with a warning for each part
    if (chosen := _variant(home, variant)) is not None:
        options["variant"] = chosen
    part, told = kind.from_pretrained(
        str(home),
        local_files_only=True,
        use_safetensors=any(home.glob("*.safetensors")),
        output_loading_info=True,
        **options,
    )
    if missing := sorted(told["missing_keys"]):
        raise MissingCapability(
            f"{home} lacks {len(missing)} of the weights of its {named} ({missing[0]} …): it was not saved"
            " whole; download or convert it again"
        )
    return part.eval()


def _processors(transformers: Any, found: Checkpoint) -> dict[str, Any]:
    """Processors of pictures and text that a family would load with one of videos beside, which it asks for
    nothing, where this machine has no torchvision to load that with."""
    if find_spec("torchvision") is not None:
        return {}
    made: dict[str, Any] = {}
    for name, (library, named) in parts_of(found).items():
        kind = getattr(transformers, named, None) if library == "transformers" else None
        attributes = getattr(kind, "get_attributes", tuple)
        if "video_processor" in attributes():
            made[name] = without_videos(transformers, found.folder / name, named)
    return made


def _variant(home: Path, wanted: str | None) -> str | None:
    """Which variant of a part's weight files to read: the one that is wanted, else the plain files, else the
    one that is there."""
    held = {found[1] for file in home.iterdir() if (found := _WEIGHTS.fullmatch(file.name))}
    if wanted in held or None in held:
        return wanted if wanted in held else None
    return min(held, default=None)


def _dtype(found: Checkpoint, device: Any, name: str) -> Any:
    """The dtype of all parts: as asked; or "auto", as the part that denoises was saved."""
    torch = imported("torch", "torch")
    if name != "auto":
        return torch_dtype(name)
    saved = next((d for part in DENOISERS if (d := _saved_dtype(found, part)) is not None), "F32")
    if saved == "F16" and device.type == "cpu":
        return torch.float32  # many of its kernels are not there for it
    return {"F32": torch.float32, "F16": torch.float16}.get(saved, torch.bfloat16)


def _saved_dtype(found: Checkpoint, part: str) -> str | None:
    """What most tensors of a part's first file are: "F32", "F16", "BF16", …"""
    for file in found.weights:
        if file.parent.name == part and file.suffix == ".safetensors":
            with file.open("rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            held = Counter(t["dtype"] for name, t in header.items() if name != "__metadata__")
            return held.most_common(1)[0][0] if held else None
    return None


def tell_steps(pipe: Any) -> None:
    """Have a pipeline tell its steps to whoever watches the run (`unroller.progress`), in place of showing a
    bar of its own."""
    from tqdm import tqdm

    class Steps(tqdm):
        def __init__(self, iterable: Any = None, total: int | None = None, **_look: Any) -> None:
            super().__init__(iterable, total=total, disable=True)
            self.done, self.of = 0, len(iterable) if total is None else total

        def __enter__(self) -> Any:
            progress.tell(0, self.of)
            return self

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            progress.tell(self.done, self.of)

        def __iter__(self) -> Any:
            with self:
                for one in () if self.iterable is None else self.iterable:
                    yield one
                    self.update()

    pipe.progress_bar = Steps


def check_taken(taken: Mapping[str, Any], name: str, kind: str, setting: str, ours: Collection[str]) -> None:
    """Raises PluginError where a pipeline's call takes no such argument. ours: those that no user gives."""
    if name not in taken:
        theirs = (n for n in taken if n not in ours and "embeds" not in n and "callback" not in n)
        others = ", ".join(sorted(theirs))
        raise PluginError(f"a {kind} takes no {setting}: leave it out (its options are: {others})")


def sequence_length(pipe: Any, options: Mapping[str, Any]) -> int | None:
    """How many tokens the pipeline lets encoders other than CLIP read, where it says so."""
    parameter = inspect.signature(pipe.__call__).parameters.get("max_sequence_length")
    given = options.get("max_sequence_length", None if parameter is None else parameter.default)
    return given if isinstance(given, int) else None


def check_size(width: int, height: int, step: int) -> None:
    """Raises InputError, with the nearest that can, for a size whose sides are no multiples of `step`."""
    most = LARGEST // step * step
    if all(side % step == 0 and step <= side <= most for side in (width, height)):
        return
    near = " x ".join(str(max(step, min(most, round(side / step) * step))) for side in (width, height))
    raise InputError(
        f"this pipeline draws pictures whose sides are multiples of {step}, up to {most}, and was asked"
        f" for {width} x {height}: the nearest it can draw is {near}"
    )


def check_options(options: Mapping[str, Any]) -> None:
    """Raises PluginError for what cannot be told from something else by its words."""
    try:
        json.dumps(dict(options))
    except (TypeError, ValueError) as error:
        raise PluginError(f"options must be plain data (numbers, text, lists): {error}") from None


class _quiet:
    """No progress bars and no warnings while parts load: the terminal is the command line's, and what matters
    of them is an error here."""

    def __init__(self, *libraries: Any) -> None:
        self.logging = [library.utils.logging for library in libraries]
        self.before = [(one.is_progress_bar_enabled(), one.get_verbosity()) for one in self.logging]

    def __enter__(self) -> None:
        for one in self.logging:
            one.disable_progress_bar()
            one.set_verbosity_error()

    def __exit__(self, *_: object) -> None:
        for one, (shown, verbosity) in zip(self.logging, self.before, strict=True):
            one.set_verbosity(verbosity)
            if shown:
                one.enable_progress_bar()
