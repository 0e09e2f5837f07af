"""A Hydra callback that ends the process of one seed's job, once it has a bundle: an extension that goes wrong."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Ending(Callback):
    """Ends a job's process.

    Args:
        how: ``exit`` (os._exit) or ``memory`` (take more than ``cgroup`` allows, until the kernel kills it).
        times: how often; later attempts live.
        cgroup: a memory control group with a limit.
    """

    def __init__(self, how: str, times: int, cgroup: str = "") -> None:
        self.how, self.times, self.cgroup = how, times, cgroup

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Let it begin, then end it."""
        if config.seed == 1:
            folder = Path(config.hydra.runtime.output_dir)
            threading.Thread(target=self._end, args=(folder,), daemon=True).start()

    def _end(self, folder: Path) -> None:
        ended = len(list(folder.glob("ended-*")))
        if ended >= self.times:
            return
        known = {path.name for path in folder.glob("bundle/[0-9]*")}
        while not {path.name for path in folder.glob("bundle/[0-9]*")} - known:
            time.sleep(0.01)
        (folder / f"ended-{ended}").touch()
        if self.how == "exit":
            os._exit(7)
        Path(self.cgroup, "cgroup.procs").write_text(str(os.getpid()))
        taken = []
        while True:
            taken.append(os.urandom(1 << 20))
