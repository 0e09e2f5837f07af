"""The search sweeper as a Hydra plugin.

Hydra imports this module at every start, so it must be light.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from hydra_plugins.dinorl.curriculum_sweeper import CurriculumSweeper, CurriculumSweeperConfig


@dataclass
class SearchSweeperConfig(CurriculumSweeperConfig):
    """``hydra/sweeper=search``."""

    _target_: str = "hydra_plugins.dinorl.search_sweeper.SearchSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchSweeperConfig, provider="dinorl")


class SearchSweeper(CurriculumSweeper):
    """Searches the overrides' space with Ray Tune and ends bad trials early."""

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, check and run the search."""
        from dinorl.search.run import Search

        assert self.hydra_context is not None and self.task_function is not None and self.config is not None
        return Search(self.hydra_context, self.task_function, self.config).run(self.overrides(arguments))
