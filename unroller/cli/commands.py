"""The commands, ours and those that other rooms register, found by name and imported when invoked.

    [project.entry-points."unroller.commands"]
    train = "my_package.commands:train"        # a function with typer's annotations, or a typer.Typer

`unroller --help` lists a command by the first sentence of its docstring, which is read from the source file
without importing it: listing twenty commands costs no torch, and a broken one does not break the list.
"""

from __future__ import annotations

import ast
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from unroller.cli.exits import Exit, code_of
from unroller.cli.terminal import note, one_line, print_json, silence
from unroller.faults import PluginError, UnknownName
from unroller.registry import near, registered

BUILT_IN = {
    "run": "unroller.cli.run:app",
    "ablate": "unroller.cli.ablate:app",
    "runs": "unroller.cli.runs:app",
    "primitives": "unroller.cli.primitives:app",
    "check": "unroller.cli.check:app",
    "doctor": "unroller.cli.doctor:app",
}


class Commands(TyperGroup):
    """The group behind `unroller`: lazy commands, and every error as one sentence and an exit code."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return [*BUILT_IN, *sorted(set(registered("commands")) - set(BUILT_IN))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        path = _path_of(cmd_name)
        if path is None:
            return None
        if self._listing:
            return TyperCommand(name=cmd_name, help=described(path))
        return load_command(cmd_name, path)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and _path_of(args[0]) is None:
            names = self.list_commands(ctx)
            raise UnknownName(f"there is no command {args[0]!r}.{near(args[0], names)}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with self._only_listing():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._only_listing():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _only_listing(self) -> Generator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run, and leave with an exit code. With `standalone_mode=False` it returns the code."""
        args = list(sys.argv[1:] if args is None else args)
        standalone = extra.pop("standalone_mode", True)
        _always_printable()
        try:
            code = super().main(args, prog_name or "unroller", standalone_mode=False, **extra)
            sys.stdout.flush()
        except Exception as error:
            code = told(error, as_json="--json" in args)
        code = int(code or 0)
        if standalone:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # before typer sees it, which would end with another code
            raise typer.Exit(told(error)) from None


def told(error: BaseException, as_json: bool = False) -> int:
    """Say what went wrong in one sentence on stderr, and answer the exit code for it.

    UNROLLER_DEBUG=1 shows the traceback before the sentence.
    """
    if isinstance(error, BrokenPipeError):
        silence()
        return Exit.BROKEN_PIPE
    if isinstance(error, typer.Abort):
        return Exit.INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":  # it has printed the help
        return Exit.USAGE
    if os.environ.get("UNROLLER_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    # Typer's own errors know how to word themselves; where their class lives differs between versions.
    wording = getattr(error, "format_message", None)
    code = Exit.USAGE if callable(wording) else code_of(error)
    message = str(wording()) if callable(wording) else str(error) or type(error).__name__
    if code is Exit.BUG:
        message = (
            f"something unexpected: {type(error).__name__}: {message}."
            " Run it again with UNROLLER_DEBUG=1 to see where"
        )
    elif callable(wording):
        message += _where_help_is(error)
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename or 'disk'}: {error.strerror}"
    note(one_line(message, 2_000), "error")
    if as_json:
        print_json({"error": type(error).__name__, "message": message, "exit": int(code)})
    return code


def load_command(name: str, path: str) -> Any:
    """The command behind "module:object". Raises PluginError."""
    from unroller.registry import load, load_path

    found = load_path(path) if name in BUILT_IN else load("commands", name)
    if isinstance(found, typer.Typer):
        app = found
    elif callable(found):
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command()(found)
    else:
        raise PluginError(f"the command {name!r} ({path}) is neither a function nor a typer.Typer")
    try:
        command: Any = typer.main.get_command(app)
    except Exception as error:  # typer refuses some signatures, in many ways
        raise PluginError(f"the command {name!r} ({path}) cannot be built: {error}") from error
    command.name = name
    return command


def described(path: str) -> str:
    """The first sentence of a command's docstring, read from its source. Never raises."""
    module, _, name = path.partition(":")
    try:
        tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, ImportError):
        return f"(cannot be read: {module})"
    found = _docstring_of(tree, name) or ast.get_docstring(tree) or f"from {module}"
    return " ".join(found.split("\n\n")[0].split()).replace("[", r"\[")


def _path_of(name: str) -> str | None:
    if name in BUILT_IN:
        return BUILT_IN[name]
    point = registered("commands").get(name)
    return None if point is None else point.value


def _source(module: str) -> Path:
    """The file of a module, without importing it or the packages above it. Raises ImportError."""
    top, *below = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        raise ImportError(module)
    if not below:
        return Path(spec.origin)
    place = Path(spec.origin).parent.joinpath(*below)
    file = place.with_suffix(".py")
    return file if file.exists() else place / "__init__.py"


def _docstring_of(tree: ast.Module, name: str) -> str | None:
    """Of the function `name`; of the typer.Typer `name`: its help, or its only command's docstring."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        if function.name == name:
            return ast.get_docstring(function)
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
            for keyword in node.value.keywords:
                if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
    of_app = [
        function
        for function in functions
        if any(f"{name}.command" in ast.unparse(d) for d in function.decorator_list)
    ]
    return ast.get_docstring(of_app[0]) if len(of_app) == 1 else None


def _where_help_is(error: BaseException) -> str:
    context: Any = getattr(error, "ctx", None)
    command = getattr(context, "command_path", None) or "unroller"
    return f" ({command} --help shows how)"


def _always_printable() -> None:
    """A terminal without ° or → shows ? in their place; it does not end the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
