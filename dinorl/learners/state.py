"""Converts optimizers, running statistics and random generators to arrays and back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from dinorl.config import ConfigError
from dinorl.learners.base import Arrays


def module_arrays(state: Mapping[str, torch.Tensor]) -> Arrays:
    """Return a module's ``state_dict`` as arrays."""
    return {key: value.detach().cpu().numpy() for key, value in state.items()}


def optimizer_arrays(optimizers: Mapping[str, torch.optim.Optimizer]) -> Arrays:
    """Return optimizers' state, ``<name>/<parameter>/<quantity>``."""
    return {
        f"{name}/{index}/{key}": torch.as_tensor(value).cpu().numpy()
        for name, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_optimizers(optimizers: Mapping[str, torch.optim.Optimizer], arrays: Mapping[str, np.ndarray]) -> None:
    """Load arrays of :func:`optimizer_arrays`; other names are ignored."""
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        for key, value in arrays.items():
            owner, _, rest = key.partition("/")
            if owner == name and rest:
                index, _, what = rest.partition("/")
                state["state"].setdefault(int(index), {})[what] = torch.from_numpy(value)
        optimizer.load_state_dict(state)


def normalization_arrays(env: VecNormalize) -> Arrays:
    """Return the running statistics of observations and rewards."""
    return {
        f"{name}_{key}": np.asarray(getattr(rms, key))
        for name, rms in (("obs", env.obs_rms), ("reward", env.ret_rms))
        for key in ("mean", "var", "count")
    } | {"discounted_returns": env.returns}


def load_statistics(arrays: Mapping[str, np.ndarray], name: str, rms: Any) -> None:
    """Load the running statistics ``obs`` or ``reward``.

    Raises:
        ConfigError: they are missing, or of another shape.
    """
    assert isinstance(rms, RunningMeanStd)  # a dict only for Dict spaces
    mean, var, count = (arrays.get(f"{name}_{what}") for what in ("mean", "var", "count"))
    if mean is None or var is None or count is None or count.size != 1 or {mean.shape, var.shape} != {rms.mean.shape}:
        raise ConfigError(f"expected {name}_mean and {name}_var of shape {rms.mean.shape}, and their count")
    rms.mean, rms.var, rms.count = mean, var, float(count)


def random_arrays() -> Arrays:
    """Return the state of the process's random generators: torch, on a GPU too, NumPy, Python."""
    _, keys, *rest = np.random.get_state()
    _, internal, _ = random.getstate()
    gpu = {"torch_cuda": torch.cuda.get_rng_state().numpy()} if _on_gpu() else {}
    return gpu | {
        "torch": torch.get_rng_state().numpy(),
        "numpy_keys": np.asarray(keys),
        "numpy_rest": np.asarray(rest, dtype=np.float64),
        "python": np.asarray(internal, dtype=np.uint64),
    }


def load_random(arrays: Mapping[str, np.ndarray]) -> None:
    """Set the process's random generators."""
    torch.set_rng_state(torch.from_numpy(arrays["torch"]))
    if "torch_cuda" in arrays and _on_gpu():
        torch.cuda.set_rng_state(torch.from_numpy(arrays["torch_cuda"]))
    position, has_gauss, cached = arrays["numpy_rest"]
    np.random.set_state(("MT19937", arrays["numpy_keys"], int(position), int(has_gauss), float(cached)))
    random.setstate((random.getstate()[0], tuple(int(n) for n in arrays["python"]), None))


def _on_gpu() -> bool:
    """Whether torch has used a GPU in this process."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
