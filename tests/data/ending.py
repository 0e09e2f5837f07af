"""A Hydra callback that makes one seed's job take too much memory once it has a bundle: an extension gone wrong."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Ending(Callback):
    """Ends a job's process, the first time that it runs, by the hand of the kernel.

    Args:
        cgroup: a memory control group with a limit.
    """

    def __init__(self, cgroup: str) -> None:
        self.cgroup = cgroup

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Let it begin, then end it."""
        if config.seed == 1:
            folder = Path(config.hydra.runtime.output_dir)
            threading.Thread(target=self._end, args=(folder,), daemon=True).start()

    def _end(self, folder: Path) -> None:
        if (folder / "ended").exists():
            return
        while not list(folder.glob("bundle/[0-9]*")):
            time.sleep(0.01)
        (folder / "ended").touch()
        Path(self.cgroup, "cgroup.procs").write_text(str(os.getpid()))
        taken = []
        while True:
            taken.append(b"x" * (16 << 20))
