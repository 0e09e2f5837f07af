"""Checks Hydra's own options and keys: each works, or is refused with what to type instead."""

from __future__ import annotations

import contextlib
import importlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.types import RunMode

from dinorl.config import ConfigError

_OTHERS = "Overlays of your own: --config-dir=DIR, with DIR/experiment/NAME.yaml and experiment=NAME"
_REFUSED = {
    "config_name": ("--config-name", _OTHERS),
    "config_path": ("--config-path", _OTHERS),
    "package": ("--package", _OTHERS),
    "experimental_rerun": (
        "--experimental-rerun", "Type the same overrides with sweep.name=NAME to resume, or dinorl with those of "
        ".hydra/overrides.yaml",
    ),
}  # fmt: skip
_INSTEAD = {
    "hydra.mode": "every command is planned and launched by the sweeper. Remove it",
    "hydra.run.dir": "moves nothing, since every command is a sweep. Type hydra.sweep.dir=…",
    "hydra.sweep.subdir": "is given to each job by the sweeper. Remove it",
}


def together(arguments: list[str]) -> list[str]:
    """Return a command line with its overrides side by side, as Hydra's parser needs them."""
    typed, rest = get_args_parser().parse_known_args(arguments)
    scattered = [argument for argument in rest if not argument.startswith("-")]
    if not scattered or not typed.overrides:
        return arguments
    others = [argument for argument in arguments if argument not in (*scattered, *typed.overrides)]
    return [*others, *typed.overrides, *scattered]


def check_flags(typed: Namespace) -> None:
    """Check a command line as parsed by Hydra.

    Raises:
        ConfigError: an option or key has no effect here.
    """
    for name, (flag, hint) in _REFUSED.items():
        if getattr(typed, name) is not None:
            raise ConfigError("dinorl has one config", key=flag, hint=hint)
    if typed.resolve and not typed.cfg:
        raise ConfigError("only shows a config", key="--resolve", hint="Type --cfg=job --resolve")
    if typed.shell_completion and not any(o.startswith(("install=", "uninstall=", "query=")) for o in typed.overrides):
        raise ConfigError("expected install, uninstall or query", key="--shell-completion",
                          hint='Type eval "$(dinorl --shell-completion install=bash)"')  # fmt: skip
    for override in typed.overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in _INSTEAD:
            raise ConfigError(_INSTEAD[key], key=override)
        if key == "hydra/sweeper" and value not in _sweepers():
            raise ConfigError(
                "starts jobs that are no stages", key=override, expected=f"one of {', '.join(_sweepers())}",
                hint="Remove it",
            )  # fmt: skip


@contextlib.contextmanager
def multirun() -> Iterator[None]:
    """Let Hydra take its mode as given; it would compose everything once more, only to read ``hydra.mode``."""
    composes = Hydra.get_mode
    Hydra.get_mode = lambda *_, **__: RunMode.MULTIRUN  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = composes  # type: ignore[method-assign]


def _sweepers() -> list[str]:
    """Return the names of dinorl's sweepers."""
    plugins = importlib.import_module("hydra_plugins.dinorl")  # Hydra's scan loads the namespace again
    files = (path for folder in plugins.__path__ for path in Path(folder).glob("*_sweeper.py"))
    return sorted(path.stem.removesuffix("_sweeper") for path in files)
