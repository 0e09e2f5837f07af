"""The curriculum sweeper as a Hydra plugin.

Hydra imports this module at every start, so it must be light.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class CurriculumSweeperConfig:
    """``hydra/sweeper=curriculum``."""

    _target_: str = "hydra_plugins.dinorl.curriculum_sweeper.CurriculumSweeper"
    # more sweeps: {key: "value,value"}
    params: dict[str, str] | None = field(default=None)


ConfigStore.instance().store(group="hydra/sweeper", name="curriculum", node=CurriculumSweeperConfig, provider="dinorl")


class CurriculumSweeper(Sweeper):
    """Turns overrides into curricula and launches them, stage by stage, through Hydra's launcher."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params or {}
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's objects for :meth:`sweep`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, check and run the overrides."""
        from dinorl.sweep.run import Sweep

        assert self.hydra_context is not None and self.task_function is not None and self.config is not None
        return Sweep(self.hydra_context, self.task_function, self.config).run(self.overrides(arguments))

    def overrides(self, arguments: list[str]) -> list[str]:
        """Return the sweeps of ``hydra.sweeper.params`` and the overrides."""
        return [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
