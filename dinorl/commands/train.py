"""``dinorl [train] key=value …``: composes, plans and trains, in Hydra's override and sweep grammar."""

from __future__ import annotations

import contextlib
import sys

SUMMARY = "Train a curriculum, a stage or a sweep; the word may be left out."


def run(arguments: list[str]) -> int:
    """Run the command line with Hydra.

    Returns:
        The exit status: 1 if a stage failed.

    Raises:
        ConfigError: the command line is wrong; nothing was written.
    """
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from dinorl import __version__
    from dinorl.commands import overview
    from dinorl.commands._hydra_flags import check_flags, multirun, together
    from dinorl.config import CONFIG_NAME, ConfigError, conf_dir
    from dinorl.config.explain import check_options, explain
    from dinorl.config.overrides import one_stage
    from dinorl.sweep import job
    from dinorl.sweep.run import JobsFailed
    from dinorl.sweep.settings import planning_keys

    if not __debug__:
        raise ConfigError("Hydra's parser does not work without assertions. Unset PYTHONOPTIMIZE, or leave out -O")
    if "--version" in arguments:
        print(f"dinorl {__version__}", flush=True)
    arguments = together(arguments)
    typed = get_args_parser().parse_known_args(arguments)[0]
    if typed.help:
        print(overview(), flush=True)
    sys.argv[1:] = arguments
    try:
        check_flags(typed)
        check_options(typed.overrides)
        if typed.cfg:  # one stage's config
            others = [argument for argument in arguments if argument not in typed.overrides]
            sys.argv[1:] = [*others, *one_stage(typed.overrides)]
        with multirun(), contextlib.nullcontext() if typed.cfg else planning_keys():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(job.run)()
    except JobsFailed as error:
        print(f"dinorl: {error}", file=sys.stderr)
        return 1
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain(error, typed.overrides) from error
    return 0
