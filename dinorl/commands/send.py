"""``python -m dinorl.tracking.send FOLDER``: sends MLflow what runs could not send themselves."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dinorl.files.run_folder import TrackedFolder
from dinorl.tracking.spool import Spool


def main(arguments: list[str] | None = None) -> int:
    """Send what waits below a folder; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dinorl.commands.send", description="Send MLflow what waits.")
    parser.add_argument("folder", type=Path, help="a run folder, or a folder of many")
    chosen = parser.parse_args(arguments)
    spools = sorted(chosen.folder.rglob(TrackedFolder.spool.name))
    if not spools:
        print(f"{chosen.folder}: found no {TrackedFolder.spool.name} in it or below", file=sys.stderr)
        return 2
    failed = 0
    for path in spools:
        spool = Spool(path.parent)
        if not spool.waiting():
            continue
        try:
            spool.send()
            print(f"{path.parent}: sent, run {spool.run_id}")
        except Exception as error:  # one run's trouble is not the next one's
            failed += 1
            print(f"{path.parent}: {type(error).__name__}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
