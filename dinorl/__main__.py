"""The command line: ``dinorl WORD …`` runs a command, ``dinorl key=value …`` trains."""

from __future__ import annotations

import os
import signal
import sys

# no telemetry; Hydra raises, dinorl explains
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["HYDRA_FULL_ERROR"] = "1"


def main() -> None:
    """Run the command line and exit with its status."""
    from dinorl.commands._door import call
    from dinorl.files.process import on_stop, unbreakable_output

    unbreakable_output()
    on_stop(signal.default_int_handler)  # as Ctrl-C: open files are closed
    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
