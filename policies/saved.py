"""Saving policies and opening them again: JSON for settings, safetensors for arrays, never a pickle.

A saved policy is a folder: `policy.json`, and for one that has learned something `arrays-….safetensors`,
named for its content. The JSON is replaced in one step and last, so a process that is killed while it saves
leaves the old policy whole. It names the actions that the policy was made for, each with a digest of what it
does.

What was trained elsewhere is safe to use. An action that does not exist any more is never chosen; a policy of
which no action is left stops at once, and the problem is decoded from what there is. `load(…, strict=True)`
refuses both, and actions that do something else by now.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import msgspec
import numpy as np
from xxhash import xxh3_128_hexdigest

from policies.files import SavedPolicyError, read_arrays, remove_others, replace_file, write_arrays
from unroller.actions import Action
from unroller.faults import PolicyError, UnrollerError
from unroller.registry import POLICY_FILE, policy_named

FORMAT = 1
"""Of policy.json. A folder of a later one is refused."""

LONGEST = 16 << 20
"""Bytes of settings that are read; a policy's are a few thousand."""

SHIPPED = Path(__file__).with_name("weights")
"""Where policies that come with the project lie, one folder a kind."""

Saved = TypeVar("Saved", bound="Saveable")

Actions = Mapping[str, Action] | Mapping[str, str] | Iterable[str]
"""Actions as an executor holds them (`executor.actions`), with digests, or only their names."""


class Written(msgspec.Struct):
    """policy.json."""

    format: int
    kind: str
    settings: dict[str, Any]
    actions: dict[str, str] = {}
    registry: str = ""
    arrays: str = ""
    unroller: str = ""


class Saveable:
    """What can be saved has a `kind`, which is the name it is registered under, and settings it is made of.

    A class whose settings are plain data names them in `_settings` and takes them in its constructor; one
    with arrays says how it is made of both in `_made`.
    """

    kind: ClassVar[str]
    digests: Mapping[str, str] = {}

    def _settings(self) -> dict[str, Any]:
        return {}

    def _arrays(self) -> Mapping[str, np.ndarray]:
        return {}

    @classmethod
    def _made(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray], digests: dict[str, str]) -> Self:
        return cls(**settings)

    def save(self, path: str | Path) -> Path:
        """Write it into a folder, which is made; returns the folder. Raises SavedPolicyError."""
        folder = Path(path)
        arrays = self._arrays()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = write_arrays(folder, arrays) if arrays else ""
            written = Written(
                FORMAT,
                self.kind,
                self._settings(),
                dict(self.digests),
                registry(self.digests),
                name,
                _version(),
            )
            replace_file(folder / POLICY_FILE, msgspec.json.format(msgspec.json.encode(written)) + b"\n")
            remove_others(folder, name)
        except (
            OSError,
            TypeError,
            msgspec.MsgspecError,
        ) as error:  # TypeError: a setting that is no plain data
            raise SavedPolicyError(f"a policy cannot be saved in {folder}: {error}") from None
        return folder

    @classmethod
    def load(cls, path: str | Path, *, actions: Actions | None = None, strict: bool = False) -> Self:
        """The policy that `save` wrote. strict: it must have been made for exactly these `actions`.

        Raises SavedPolicyError, in one sentence with what to do.
        """
        folder = Path(path)
        written = _read(folder)
        if written.kind != cls.kind:
            raise SavedPolicyError(
                f"{folder} holds a policy of the kind {written.kind!r}, not {cls.kind!r}: open it with"
                " policies.saved.load_policy"
            )
        if strict and (said := differences(written.actions, digests_of(actions or ()))):
            raise SavedPolicyError(f"{folder} was trained with other actions: {said}; train it again")
        arrays = read_arrays(folder, written.arrays)
        try:
            made = cls._made(written.settings, arrays, written.actions)
        except SavedPolicyError:
            raise
        except (
            UnrollerError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            msgspec.MsgspecError,
        ) as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise SavedPolicyError(
                f"{folder} cannot be opened as a policy of the kind {cls.kind!r} ({why:.300}): it is"
                " damaged, or"
                " another version wrote it"
            ) from error
        made.digests = written.actions
        return made


def load_policy(path: str | Path) -> Any:
    """A saved policy of any kind that is installed. Raises SavedPolicyError, UnknownName."""
    _read(Path(path))
    return policy_named(Path(path))


def shipped(of: type[Saved]) -> Saved:
    """The policy of a kind that comes with the project. Raises SavedPolicyError where none does."""
    folder = SHIPPED / of.kind
    if not (folder / POLICY_FILE).is_file():
        raise SavedPolicyError(
            f"no {of.kind} policy comes with this installation: fit or train one (docs/policies.md), save"
            " it, and"
            " name its folder in place of its name, as in `unroller run --policy FOLDER`"
        )
    return of.load(folder)


def digests_of(actions: Actions) -> dict[str, str]:
    """Actions with a digest of what each does: its primitive's version and parameters; "" where only names
    are known."""
    if isinstance(actions, str):
        raise PolicyError(f"actions are several names, not the one string {actions!r}: write [{actions!r}]")
    if not isinstance(actions, Mapping):
        return dict.fromkeys(actions, "")
    return {name: one if isinstance(one, str) else _digest(one) for name, one in actions.items()}


def registry(digests: Mapping[str, str]) -> str:
    """One digest over all of them, in their order."""
    return xxh3_128_hexdigest(msgspec.json.encode(list(digests.items())))


def differences(trained: Mapping[str, str], there: Mapping[str, str]) -> str:
    """How the actions that there are differ from those trained with, in words; "" where they do not."""
    parts = [
        ("vanished", [name for name in trained if name not in there]),
        ("new", [name for name in there if name not in trained]),
        ("changed", [n for n, d in trained.items() if d and there.get(n) and there[n] != d]),
    ]
    said = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
    return said or ("in another order" if list(trained) != list(there) else "")


def warn_if_none(name: str, trained: Iterable[str], actions: Mapping[str, Any]) -> None:
    """Warn where nothing is left of what a policy was made for: it decodes directly, which is easy to
    miss."""
    known = list(trained)
    if known and not any(one in actions for one in known):
        warnings.warn(
            f"none of the actions that the policy {name} was made for is registered ({', '.join(known)}): it"
            " stops at once, and problems are decoded directly",
            stacklevel=3,
        )


def _digest(action: Action) -> str:
    held = sorted(action.parameters.model_dump().items())
    return xxh3_128_hexdigest(f"{action.primitive.version} {held!r}".encode())[:16]


def _read(folder: Path) -> Written:
    file = folder / POLICY_FILE
    try:
        if file.stat().st_size > LONGEST:
            raise SavedPolicyError(f"{file} is larger than any policy's settings: it is something else")
        said = file.read_bytes()
        written = msgspec.json.decode(said, type=Written)
    except OSError as error:
        raise SavedPolicyError(
            f"{folder} holds no saved policy ({POLICY_FILE}: {error.strerror}): name the folder that save()"
            " wrote"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SavedPolicyError(
            f"{file} is damaged or was cut short ({error}): save the policy again"
        ) from None
    if written.format != FORMAT:
        raise SavedPolicyError(
            f"{file} has the format {written.format}, and this version of unroller reads {FORMAT}: use the"
            " version"
            f" that wrote it ({written.unroller or 'unknown'}), or train again"
        )
    if written.registry != registry(written.actions):
        raise SavedPolicyError(f"{file} was changed after it was saved: its actions do not fit their digest")
    return written


def _version() -> str:
    from unroller import __version__

    return __version__
