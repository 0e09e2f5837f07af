"""The bundle: one folder with everything of a stage at one moment. Arrays, JSON and YAML only, no pickles.

policy.npz  optimizer.npz  normalization.npz  random.npz      of the learner
meta.json     counters, evaluation, versions, git sha, hash of the MJCF
config.yaml     the composed config
[state.npz  progress.json]      what only resuming an unfinished stage needs (training/resume.py)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dinorl.bundle.locate import resolve
from dinorl.config import Config, ConfigError, base_values, build
from dinorl.config.explain import explain
from dinorl.config.overrides import check_needed, read_settings
from dinorl.config.species import SPECIES_DIR, mjcf_hash, mjcf_path
from dinorl.files.run_folder import BundleFolder
from dinorl.files.untrusted import LARGEST_ARRAYS, read_arrays, read_config, read_json
from dinorl.learners.base import Arrays, Learner

POLICY, OPTIMIZER, NORMALIZATION, RANDOM = LEARNER_FILES = ("policy", "optimizer", "normalization", "random")
_HAND_OVER = (POLICY, NORMALIZATION)
_META_KEYS = ("species", "algo", "seed", "timesteps", "mjcf_sha256")


class Bundle:
    """A bundle, opened: what it holds is read when it is first asked for, once.

    Args:
        path: its folder; :meth:`open` finds it from what a user typed.

    Attributes:
        files: where its files lie.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, BundleFolder(path)

    @classmethod
    def open(cls, where: str | Path) -> Bundle:
        """Open what a path, a run folder, an MLflow run id or a zoo name means; of a run folder, the best bundle.

        Raises:
            ConfigError: there is none.
        """
        return cls(resolve(where))

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What it says of itself: species, algo, seed, timesteps, evaluation, versions, hash of the MJCF.

        Raises:
            ConfigError: it says too little.
        """
        meta = read_json(self.files.meta)
        for key in _META_KEYS:
            if key not in meta:
                raise ConfigError(f"{self.files.meta}: expected {key} in it, found {', '.join(meta) or 'nothing'}")
        return meta

    @cached_property
    def config(self) -> Config:
        """The config that it was trained with; a key that did not exist then has its value of ``conf/base``.

        Raises:
            ConfigError: it is damaged, or its animal is not the one that the policy was trained on.
        """
        return self.config_with(())

    def config_with(self, overrides: Sequence[str]) -> Config:
        """Return its config under other conditions.

        Args:
            overrides: of ``env.*``, in Hydra's grammar.

        Raises:
            ConfigError: an override does not fit; or see :attr:`config`.
        """
        file = self.files.config
        config = OmegaConf.merge(base_values(), read_config(file))
        try:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            for override in parsed:
                if not override.key_or_group.startswith("env.") or override.type != OverrideType.CHANGE:
                    raise ConfigError(
                        f"{override.input_line}: a trained policy can only be given other conditions. "
                        "Type env.<key>=<value>, such as env.push_speed=0.5"
                    )
                OmegaConf.update(config, override.key_or_group, override.value())
        except HydraException as error:
            raise explain(error, list(overrides)) from error
        try:
            cfg = build(config)  # type: ignore[arg-type]
            for setting in read_settings(parsed)[0]:
                check_needed(setting, [cfg])
        except ConfigError as error:
            raise error if overrides else ConfigError(f"{file}: {error}") from error
        model = mjcf_path(cfg.species).resolve()
        ours = SPECIES_DIR in model.parents
        if not ours and not (model.is_file() and mjcf_hash(cfg.species) == self.meta["mjcf_sha256"]):
            raise ConfigError(
                f"{file}: species.mjcf={cfg.species.mjcf} leads out of dinorl/species, to a file that this "
                "policy was not trained on; it is not read"
            )
        return cfg

    def arrays(self, name: str, largest: int | None = LARGEST_ARRAYS) -> Arrays:
        """Return the arrays of one of its files, such as ``policy``.

        Args:
            name: of the file, without its ending.
            largest: bytes that they may come to; None: no limit, for a file of one's own.

        Raises:
            ConfigError: it is missing, damaged, too large, or holds anything but arrays.
        """
        return read_arrays(self.path / f"{name}.npz", largest)

    @cached_property
    def _policy(self) -> dict[str, Arrays]:
        return {name: self.arrays(name) for name in _HAND_OVER}

    def check_hand_over(self) -> None:
        """Read all that a hand-over needs.

        Raises:
            ConfigError: some of it is damaged.
        """
        _ = self.meta, self._policy

    def check_network(self) -> None:
        """Refuse a network that the weights do not fill, before memory is allocated for it.

        Raises:
            ConfigError: the config has more units than there are weights.
        """
        algo, layers = self.config.algo.name, self.config.algorithm.policy_kwargs.net_arch
        needed = sum(a * b for a, b in itertools.pairwise(layers))
        found = sum(array.size for array in self._policy[POLICY].values())
        if needed > found:
            raise ConfigError(
                f"{self.files.config}: {algo}.policy_kwargs.net_arch={layers} has more than {needed:,} weights, "
                f"and {POLICY}.npz has {found:,}"
            )

    def warm_start(self, learner: Learner) -> None:
        """Hand over to a learner: policy weights and observation statistics.

        Raises:
            ConfigError: the bundle is of another animal, algorithm or network.
        """
        self.check_hand_over()
        try:
            learner.warm_start(self._policy)
        except ConfigError as error:
            raise ConfigError(
                f"warm_start={self.path}: a policy of {self.meta['species']}/{self.meta['algo']} does not fit this "
                f"stage: {error}. Use the same species, algo and net_arch"
            ) from error

    def learner_files(self) -> Mapping[str, Arrays]:
        """Return everything that the learner had, read and checked.

        Raises:
            ConfigError: some of it is damaged.
        """
        self.check_hand_over()
        return self._policy | {name: self.arrays(name) for name in (OPTIMIZER, RANDOM)}

    def outdated(self) -> str | None:
        """Return why its numbers no longer hold, or None if they do: the animal's model must be today's."""
        if self.meta["mjcf_sha256"] == mjcf_hash(self.config.species):
            return None
        species = self.meta["species"]
        return f"the model of {species} has changed since this policy was trained; its numbers no longer hold"
