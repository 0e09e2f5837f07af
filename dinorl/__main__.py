"""``python -m dinorl``: composes, plans, runs. Hydra's override and sweep grammar is the only one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

# Nothing phones home; Hydra raises its errors, so that they can be said better.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["HYDRA_FULL_ERROR"] = "1"


def main() -> None:
    """Run what the command line asks for; exit status 1 if a stage failed, 2 if the command was wrong."""
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from dinorl.config import CONFIG_NAME, ConfigError, conf_dir
    from dinorl.config.explain import check_options, explain
    from dinorl.config.overrides import one_stage
    from dinorl.sweep import job
    from dinorl.sweep.run import JobsFailed
    from dinorl.sweep.settings import planning_keys

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is open is closed
    typed = get_args_parser().parse_known_args()[0]
    try:
        if any(override.lstrip("+").startswith("hydra.mode=") for override in typed.overrides):
            raise ConfigError("hydra.mode: every command is planned and launched by the sweeper. Remove it")
        check_options(typed.overrides)
        if typed.cfg:  # one stage's config is asked for: its stage-scoped keys apply, the others do not exist
            others = [argument for argument in sys.argv[1:] if argument not in typed.overrides]
            sys.argv[1:] = [*others, *one_stage(typed.overrides)]
        with contextlib.nullcontext() if typed.cfg else planning_keys():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(job.run)()
    except JobsFailed as error:
        print(f"dinorl: {error}", file=sys.stderr)
        sys.exit(1)
    except ConfigError as error:
        print(f"dinorl: {error}", file=sys.stderr)
        sys.exit(2)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        print(f"dinorl: {explain(error, typed.overrides)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a disk that is full or may not be written; what is done is kept
        print(f"dinorl: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):  # it ends already; another one would only spoil its last words
            signal.signal(number, signal.SIG_IGN)
        print("dinorl: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
