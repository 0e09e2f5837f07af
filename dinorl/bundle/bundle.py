"""The bundle: a checkpoint folder of arrays, JSON and YAML, without pickles.

policy.npz  optimizer.npz  normalization.npz  random.npz      of the learner
meta.json     counters, evaluation, versions, git sha, hash of the model
config.yaml     the composed config
[state.npz  progress.json]      to resume an unfinished stage (training/resume.py)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dinorl.bundle.locate import resolve
from dinorl.config import Config, ConfigError, HandOver, SpeciesConfig, base_values, build
from dinorl.config.explain import explain
from dinorl.config.overrides import check_needed, read_settings
from dinorl.config.species import SPECIES_DIR, mjcf_path, same_model
from dinorl.files.run_folder import BundleFolder
from dinorl.files.untrusted import LARGEST_ARRAYS, read_arrays, read_config, read_json
from dinorl.learners.base import Arrays, Learner

POLICY, OPTIMIZER, NORMALIZATION, RANDOM = ("policy", "optimizer", "normalization", "random")
_HAND_OVER = (POLICY, NORMALIZATION)
_META_KEYS = ("species", "algo", "seed", "timesteps", "mjcf_sha256")


class Bundle:
    """An open bundle; files are read lazily, once.

    Args:
        path: its folder; :meth:`open` also takes names.
        mjcf: where its model is now; default: where its config says.

    Attributes:
        files: its file paths.
    """

    def __init__(self, path: Path, mjcf: Path | None = None) -> None:
        self.path, self.files, self._mjcf = path, BundleFolder(path), mjcf

    @classmethod
    def open(cls, where: str | Path, mjcf: Path | None = None) -> Bundle:
        """Open a bundle by path, run folder (its best bundle), MLflow run id or zoo name.

        Args:
            where: it is.
            mjcf: where its model is now; default: where its config says.

        Raises:
            ConfigError: there is none.
        """
        return cls(resolve(where), mjcf)

    def following(self, species: SpeciesConfig) -> Bundle:
        """Return the bundle with its model where ``species`` has it, if that is the same model; else itself.

        Raises:
            ConfigError: the model of ``species`` does not compile.
        """
        same = same_model(self.meta["mjcf_sha256"], species)
        return Bundle(self.path, mjcf_path(species)) if same else self

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Metadata: species, algo, seed, timesteps, evaluation, versions, hash of the model.

        Raises:
            ConfigError: a key is missing.
        """
        meta = read_json(self.files.meta)
        for key in _META_KEYS:
            if key not in meta:
                raise ConfigError(f"{self.files.meta}: expected {key} in it, found {', '.join(meta) or 'nothing'}")
        return meta

    @cached_property
    def config(self) -> Config:
        """The training config; keys added since have their value in ``conf/base``.

        Raises:
            ConfigError: it is damaged, or its animal is another one.
        """
        return self._build(())

    def config_with(self, overrides: Sequence[str]) -> Config:
        """Return its config with overrides of ``env``.

        Args:
            overrides: of ``env.*``, in Hydra's grammar.

        Raises:
            ConfigError: an override is invalid; see also :attr:`config`.
        """
        return self._build(overrides) if overrides else self.config

    def _build(self, overrides: Sequence[str]) -> Config:
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
            if self._mjcf is not None:
                cfg = replace(cfg, species=replace(cfg.species, mjcf=str(self._mjcf.resolve())))
            for setting in read_settings(parsed)[0]:
                check_needed(setting, [cfg])
        except ConfigError as error:
            if overrides:
                raise
            raise ConfigError(f"{file}: {error}") from error
        self._check_model(cfg.species)
        return cfg

    def _check_model(self, species: SpeciesConfig) -> None:
        """Check that a model outside of the package is the one that the policy was trained on.

        Raises:
            ConfigError: it is gone, or another one.
        """
        path = mjcf_path(species)
        if SPECIES_DIR in path.resolve().parents:
            return
        found = f"{self.files.config}: species.mjcf={species.mjcf}"
        moved = "type --mjcf PATH, or write its path into that config.yaml"
        if not path.is_file():
            raise ConfigError(
                f"{found} does not exist; this policy was trained on that model. Put it back; if it was moved, {moved}"
            )
        foreign = f"{found} leads out of dinorl/species, to a file that"
        try:
            same = same_model(self.meta["mjcf_sha256"], species)
        except ConfigError as error:
            raise ConfigError(f"{foreign} is no model that compiles; it is not used. Mend it, or {moved}") from error
        if not same:
            raise ConfigError(
                f"{foreign} has changed since this policy was trained, or is another animal's; it is not used. "
                f"Restore it; if it is elsewhere, {moved}"
            )

    def arrays(self, name: str, largest: int | None = LARGEST_ARRAYS) -> Arrays:
        """Return the arrays of one of its files, such as ``policy``.

        Args:
            name: of the file, without suffix.
            largest: size limit, bytes; None: none, for own files.

        Raises:
            ConfigError: it is missing, damaged, too large, or holds anything but arrays.
        """
        return read_arrays(self.path / f"{name}.npz", largest)

    @cached_property
    def _policy(self) -> dict[str, Arrays]:
        return {name: self.arrays(name) for name in _HAND_OVER}

    def check_hand_over(self) -> None:
        """Check the files that a warm start needs.

        Raises:
            ConfigError: a file is damaged.
        """
        _ = self.meta, self._policy

    def check_network(self) -> None:
        """Check the network's size against the weights, before memory is allocated.

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

    def warm_start(self, learner: Learner, hand_over: HandOver = "all") -> None:
        """Warm-start a learner; see :meth:`dinorl.learners.base.Learner.warm_start`.

        Raises:
            ConfigError: the bundle is of another animal, algorithm or network.
        """
        self.check_hand_over()
        try:
            learner.warm_start(self._policy, hand_over)
        except ConfigError as error:
            raise ConfigError(
                f"warm_start={self.path}: a policy of {self.meta['species']}/{self.meta['algo']} does not fit this "
                f"stage: {error}. Use the same species, algo and net_arch"
            ) from error

    def learner_files(self) -> Mapping[str, Arrays]:
        """Return the learner's files, checked.

        Raises:
            ConfigError: a file is damaged.
        """
        self.check_hand_over()
        return self._policy | {name: self.arrays(name) for name in (OPTIMIZER, RANDOM)}

    def outdated(self) -> str | None:
        """Return why its numbers no longer hold, or None: the model must not have changed."""
        if same_model(self.meta["mjcf_sha256"], self.config.species):
            return None
        species = self.meta["species"]
        return f"the model of {species} has changed since this policy was trained; its numbers no longer hold"
