"""Checkpoints in a local folder, as `save_pretrained` or `hf download` write them: whole, safe, of the right
kind, and told from one another by content.

All of it is checked when a backend is made, from names, configs and the headers of weight files, without
importing torch: a wrong folder is an error where it was named and not, minutes later, a fault in a run.
Nothing is downloaded here; an id such as "org/model" is looked up among what was downloaded before. Pickled
weights run code when they are opened, and are refused unless the user allows them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from unroller.dispatch import is_out_of_memory
from unroller.faults import MissingCapability, PluginError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

WHOLE = 4 << 20
"""Bytes up to which a file is hashed whole. Of larger ones a block of every tensor is, so that changing any
layer changes the fingerprint, and 10 GB take a second."""

BLOCK = 1 << 10

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class WrongKind(MissingCapability):
    """There is a checkpoint, and it is of another kind than this backend needs."""


class Checkpoint(NamedTuple):
    """What `opened` found."""

    folder: Path
    kind: str  # the class it was saved from: "DepthAnythingForDepthEstimation", "MarigoldDepthPipeline"
    config: dict[str, Any]  # config.json, or a pipeline's model_index.json
    weights: tuple[Path, ...]
    pickled: bool

    def fingerprint(self, *settings: object) -> str:
        """16 hexadecimal digits of the weights, the configs beside them, and what else changes results."""
        from xxhash import xxh3_64

        hasher = xxh3_64(repr(settings).encode())
        homes = sorted({self.folder, *(file.parent for file in self.weights)})
        beside = [file for home in homes for file in home.iterdir() if file.suffix in (".json", ".txt")]
        if self.kind.endswith("Pipeline"):
            beside += self.folder.glob("*/*.json")  # the scheduler's, the tokenizer's
        for file in sorted({*beside, *self.weights}):
            hasher.update(f"{file.relative_to(self.folder)}:{file.stat().st_size}".encode())
            for block in _blocks(file):
                hasher.update(block)
        return hasher.hexdigest()


def opened(
    path: str | Path | None, *, wanted: str, accepts: Callable[[str], bool], allow_pickle: bool = False
) -> Checkpoint:
    """The checkpoint in a folder, or of a Hub id that was downloaded before.

    wanted: what it should be, in words; accepts: whether the class that it was saved from is that. Raises
    MissingCapability, in one sentence with what to do, where there is no checkpoint, where it is of another
    kind (WrongKind), pickled, cut short, or lacks files.
    """
    if path is None:
        raise MissingCapability(f"this backend comes without weights: name the folder of {wanted}")
    folder = _folder(path)
    config, kind = _config(folder, accepts)
    if not accepts(kind):
        raise WrongKind(
            f"{folder} holds {_a(kind or config.get('model_type') or 'model of unknown kind')}, and this"
            f" backend needs {wanted}: name another checkpoint, or another backend for this one"
        )
    homes = [folder]
    if "_class_name" in config:  # a pipeline: the components that have weights have a config.json
        homes = sorted(file.parent for file in folder.glob("*/config.json"))
    weights: list[Path] = []
    pickled = False
    for home in homes:
        files, are_pickles = _weights(home, allow_pickle)
        weights += files
        pickled |= are_pickles
    if not weights:
        raise MissingCapability(
            f"{folder} holds no weights: download the whole checkpoint, not only its config"
        )
    return Checkpoint(folder, kind, config, tuple(weights), pickled)


def _folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise MissingCapability(f"{path} is a file: name the folder that holds it and its config.json")
    if _HUB_ID.fullmatch(str(path)):
        hub = imported("huggingface_hub", "huggingface-hub")
        try:
            return Path(hub.snapshot_download(str(path), local_files_only=True))
        except Exception:  # not downloaded, or only in part: which error says so differs between versions
            raise MissingCapability(
                f"{path} is no folder, and nothing was downloaded under that id: get it with"
                f" `hf download {path}`"
            ) from None
    raise MissingCapability(
        f"{path}: no such folder; get a checkpoint with `hf download ORG/MODEL --local-dir {path}`"
    )


def _config(folder: Path, accepts: Callable[[str], bool]) -> tuple[dict[str, Any], str]:
    """The config and the class it names ("" where it names none). Of a folder that is both a pipeline and a
    model (Cosmos 3), what is accepted; the pipeline, where both are or neither is."""
    found: list[tuple[dict[str, Any], str]] = []
    for name in ("model_index.json", "config.json"):
        file = folder / name
        if file.is_file():
            config = _read(file)
            kinds = config.get("architectures") or [config.get("_class_name") or ""]
            found.append((config, str(kinds[0])))
    if found:
        return next((one for one in found if one[1] and accepts(one[1])), found[0])
    raise MissingCapability(
        f"{folder} holds no checkpoint (no config.json, no model_index.json): name the folder that"
        " save_pretrained or `hf download` wrote"
    )


def _read(file: Path) -> dict[str, Any]:
    """A JSON file that holds settings. Raises MissingCapability."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(held, dict):
            return held
        why = "it holds no settings"
    except (OSError, ValueError) as error:
        why = str(error)
    raise MissingCapability(f"{file} cannot be read ({why}): download the checkpoint again")


def _weights(home: Path, allow_pickle: bool) -> tuple[list[Path], bool]:
    """The weight files of one model, and whether they are pickles."""
    files = sorted(home.glob("*.safetensors"))
    for index in home.glob("*.safetensors.index.json"):
        files = sorted({home / name for name in _read(index).get("weight_map", {}).values()})
        lacking = [file.name for file in files if not file.is_file()]
        if lacking:
            raise MissingCapability(
                f"{home} lacks {len(lacking)} of its {len(files)} weight files ({lacking[0]} …): download it"
                " again"
            )
    if files:
        for file in files:
            _check_whole(file)
        return files, False
    pickles = sorted(file for file in home.iterdir() if file.suffix in PICKLES)
    if pickles and not allow_pickle:
        raise MissingCapability(
            f"{home} holds only pickled weights ({pickles[0].name}), which run code when opened: convert them"
            " with save_pretrained, or, if you trust them, pass allow_pickle=True"
        )
    return pickles, bool(pickles)


def _check_whole(file: Path) -> None:
    """Raise MissingCapability unless a safetensors file is as long as its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise MissingCapability(
            f"{file} is damaged or was cut short ({str(error).splitlines()[0]}): download it again"
        ) from None


def _blocks(file: Path) -> Iterator[bytes]:
    """A small file whole; of a large one the header and a block of each tensor, or 4096 blocks."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE:
            yield stream.read()
            return
        if file.suffix == ".safetensors":
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length)
            yield header
            spans = [t["data_offsets"] for name, t in json.loads(header).items() if name != "__metadata__"]
            places = [8 + length + (begin + end) // 2 for begin, end in spans]
        else:
            places = [size * i // 4096 for i in range(4096)]
        for place in sorted(places):
            stream.seek(place)
            yield stream.read(BLOCK)


# ------------------------------------------------------------------------------------------ loading


def imported(module: str, package: str) -> Any:
    """A module that this backend needs. Raises MissingCapability with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingCapability(f"this backend needs {module} ({error}): pip install '{package}'") from None
    except Exception as error:  # a torchvision that does not match torch fails in odd ways
        raise MissingCapability(
            f"{module} is installed and cannot be imported ({type(error).__name__}: {error}): reinstall it,"
            " and torchvision to match torch, or remove torchvision"
        ) from None


def torch_device(name: str) -> Any:
    """A torch device by name: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".

    Raises MissingCapability for one that this machine does not have, PluginError for what is none.
    """
    torch = imported("torch", "torch")
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise PluginError(f'{name!r} is no device: write "auto", "cpu", "cuda", "cuda:1" or "mps"') from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        there = f"{count} CUDA GPU{'s' * (count > 1)}" if count else "no CUDA GPU that torch can use"
        raise MissingCapability(f'{name!r} was asked for, and this machine has {there}: pass device="auto"')
    if device.type == "mps" and not mps:
        raise MissingCapability(f'{name!r} was asked for, and torch has no MPS here: pass device="auto"')
    return device


def torch_dtype(name: str) -> Any:
    """A torch dtype by name, or "auto": as the checkpoint was saved. Raises PluginError."""
    if name == "auto":
        return name
    if name not in ("float32", "float16", "bfloat16"):
        raise PluginError(f'{name!r} is no dtype: write "auto", "float32", "float16" or "bfloat16"')
    return getattr(imported("torch", "torch"), name)


def model(factory: Any, found: Checkpoint, device: Any, dtype: Any) -> Any:
    """The model of a checkpoint by transformers' `factory`, on its device, in evaluation mode.

    Raises MissingCapability where it cannot be loaded, and where weights are missing: transformers would
    fill them with random numbers and say so in a warning.
    """
    with telling(found):
        made, told = factory.from_pretrained(
            found.folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not found.pickled,
            output_loading_info=True,
        )
    if missing := sorted(told["missing_keys"]):
        raise MissingCapability(
            f"{found.folder} lacks {len(missing)} of the weights of {_a(found.kind)} ({missing[0]} …): it was"
            " not saved whole; download or convert it again"
        )
    return made.to(device).eval()


class telling:
    """A context in which what goes wrong with a checkpoint is told as MissingCapability."""

    def __init__(self, found: Checkpoint) -> None:
        self.found = found

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, MissingCapability):
            return
        if is_out_of_memory(error):  # which the engine knows what to do with
            return
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise MissingCapability(
            f"{self.found.folder} cannot be loaded as {_a(self.found.kind)} ({why:.300}): it is damaged,"
            " lacks files, or was saved by another version of the library; download it again"
        ) from error


def _a(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"
