"""Where physics and learning run, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from dinorl.config import AlgoConfig, Config, ConfigError, SimConfig

_INSTALL = "Type make setup GPU=1, or pip install -c requirements.lock -c requirements-gpu.lock -e '.[gpu]'"


def on_cpu(cfg: Config) -> Config:
    """Return the config with MuJoCo and the policy on the CPU, where every policy is judged."""
    sim = replace(cfg.sim, backend="cpu", device="auto")
    return replace(cfg, sim=sim, algo=replace(cfg.algo, device="cpu"))


def missing_packages() -> list[str]:
    """Return the packages of MuJoCo Warp that are not installed."""
    return [name for name in ("warp", "mujoco_warp") if find_spec(name) is None]


def physics_device(sim: SimConfig) -> str:
    """Return the device of the physics, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: MuJoCo Warp or the GPU is missing.
    """
    if sim.backend == "cpu":
        return "cpu"
    if missing := missing_packages():
        raise ConfigError(
            f"{' and '.join(missing)} cannot be imported, which MuJoCo Warp needs", key="sim.backend", found="warp",
            hint=f"{_INSTALL}; or type sim.backend=cpu",
        )  # fmt: skip
    if sim.device == "cpu":
        return "cpu"
    if _warp_gpu() is not None:
        return "cuda"
    if sim.device == "cuda":
        raise ConfigError(
            "Warp finds no NVIDIA GPU with a driver here", key="sim.device", found="cuda",
            hint="Type sim.backend=cpu for MuJoCo on the CPU, or sim.device=cpu to try Warp without a GPU",
        )  # fmt: skip
    return "cpu"


def learning_device(sim: SimConfig, algo: AlgoConfig) -> str:
    """Return the device of the networks, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: ``algo.device=cuda``, and torch has none; see also :func:`physics_device`.
    """
    if algo.device == "cpu":
        return "cpu"
    if algo.device == "auto":
        return "cuda" if physics_device(sim) == "cuda" and torch_gpu() is not None else "cpu"
    if torch_gpu() is None:
        import torch

        cause = "was built without CUDA" if torch.version.cuda is None else "finds no NVIDIA GPU with a driver here"
        raise ConfigError(
            f"torch {torch.__version__} {cause}", key="algo.device", found="cuda",
            hint="Type algo.device=cpu; a CUDA build of torch is PyPI's for Linux",
        )  # fmt: skip
    return "cuda"


def where(sim: SimConfig, algo: AlgoConfig) -> str:
    """Return where a stage runs, in words.

    Raises:
        ConfigError: something that it needs is missing.
    """
    physics, learning = physics_device(sim), learning_device(sim, algo)
    if sim.backend == "cpu":
        engine = "physics on the CPU"
    elif physics == "cpu":
        engine = "physics on MuJoCo Warp without a GPU, which is slow"
    else:
        engine = f"physics on MuJoCo Warp ({_warp_gpu()})"
    learner = "learning on the CPU" if learning == "cpu" else f"learning on cuda ({torch_gpu()})"
    return f"{engine}, {learner}" + ("" if (sim.backend, learning) == ("cpu", "cpu") else ", judged on the CPU")


def beyond_cpu(sim: SimConfig, algo: AlgoConfig) -> bool:
    """Whether a stage may need more than MuJoCo and torch on the CPU."""
    return sim.backend != "cpu" or algo.device == "cuda"


def places(stages: Iterable[tuple[SimConfig, AlgoConfig]]) -> list[str]:
    """Return :func:`where` stages run, each place once.

    Raises:
        ConfigError: something that they need is missing.
    """
    return list(dict.fromkeys(where(sim, algo) for sim, algo in stages))


def import_warp() -> Any:
    """Import Warp, which then speaks only of errors."""
    import warp

    warp.config.log_level = warp.LOG_ERROR
    return warp


def _warp_gpu() -> str | None:
    """Return the name of Warp's GPU, or None."""
    warp = import_warp()
    return str(warp.get_device("cuda").name) if warp.is_cuda_available() else None


def torch_gpu() -> str | None:
    """Return the name of torch's GPU, or None."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
