"""``dinorl send``: sends unsent entries of runs to MLflow."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Send MLflow what runs could not send themselves."
REFUSED = 2


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, help="a run folder, or a folder of many")


def run(options: Namespace) -> int:
    """Send all unsent entries below a folder; return the exit status, 1 if some fail."""
    from dinorl.config import ConfigError
    from dinorl.config.secrets import hide
    from dinorl.files.run_folder import TrackedFolder
    from dinorl.tracking.spool import Spool

    name = TrackedFolder.spool.name
    spools = sorted(options.folder.rglob(name))
    if not spools:
        raise ConfigError(f"{options.folder}: found no {name} in it or below; expected a run folder or one above")
    failed = 0
    for path in spools:
        spool = Spool(path.parent)
        if not spool.waiting():
            continue
        try:
            spool.send()
            print(f"{path.parent}: sent, run {spool.run_id}")
        except Exception as error:  # go on with other runs
            failed += 1
            print(f"{path.parent}: {type(error).__name__}: {hide(str(error))}", file=sys.stderr)
    return 1 if failed else 0
