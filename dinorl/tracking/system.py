"""System metrics: CPU, memory, disk, network and NVIDIA GPUs, read by MLflow's monitors and sent like all metrics."""

from __future__ import annotations

import contextlib
import logging
import time
from importlib.util import find_spec
from typing import Any

from dinorl.config import ConfigError, TrackingConfig

log = logging.getLogger(__name__)

EVERY = 10.0  # s, MLflow's default
PREFIX = "system/"


def check(settings: TrackingConfig) -> None:
    """Check that system metrics can be read, if they are wanted.

    Raises:
        ConfigError: psutil is missing.
    """
    if settings.system_metrics and find_spec("psutil") is None:
        raise ConfigError(
            "psutil is not installed", key="tracking.system_metrics", found="true",
            hint="Type pip install psutil, or tracking.system_metrics=false",
        )  # fmt: skip


class SystemMetrics:
    """Reads this machine's use every :data:`EVERY` seconds.

    Raises:
        ImportError: psutil is missing.
    """

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = [kind() for kind in (CPUMonitor, DiskMonitor, NetworkMonitor)]
        with contextlib.suppress(Exception):  # no GPU
            self._monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
        self._read()  # the first share of the CPU is 0
        self._next = time.monotonic() + EVERY

    def read(self) -> dict[str, float]:
        """Return the metrics, if they are due."""
        if time.monotonic() < self._next:
            return {}
        self._next = time.monotonic() + EVERY
        return self._read()

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for monitor in list(self._monitors):
            try:
                monitor.collect_metrics()
                found |= {f"{PREFIX}{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
            except Exception as error:  # a container may hide it
                log.warning("tracking: %s: %s: %s", type(monitor).__name__, type(error).__name__, error)
                self._monitors.remove(monitor)
        return found
