"""Private APIs of other libraries that dinorl uses; a failing test names the change."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTED = {"hydra.core.config_store", "hydra.core.hydra_config"}  # the parts of hydra.core in Hydra's manual


class Private(NamedTuple):
    """An API that its library may change without notice."""

    name: str  # dotted
    why: str  # where and why dinorl uses it
    takes: tuple[str, ...] = ()  # parameters that dinorl passes or overrides
    says: str = ""  # text in its source


_SB3 = "stable_baselines3"
_MLFLOW = "mlflow.environment_variables"
USED = (
    Private("hydra._internal.utils.get_args_parser", "command line: read flags and overrides before Hydra runs"),
    Private(
        "hydra._internal.hydra.Hydra.get_mode", "command line: one composition less",
        takes=("config_name", "overrides"),
    ),
    Private("hydra._internal.utils.run_and_report", "command line: errors are raised", says="HYDRA_FULL_ERROR"),
    Private("hydra._internal.callbacks.Callbacks", "search/stages: a user's callbacks in jobs", takes=("config",)),
    Private("hydra._internal.core_plugins.basic_launcher.BasicLauncher", "sweep/launch: one job at a time"),
    Private(
        "hydra.core.config_loader.ConfigLoader.load_configuration", "config/composer: compose a stage",
        takes=("config_name", "overrides", "run_mode", "from_shell"),
    ),
    Private("hydra.core.config_loader.ConfigLoader.get_search_path", "config/composer: where Hydra reads configs"),
    Private("hydra.core.global_hydra.GlobalHydra.instance", "config/compose: compose inside a Hydra application"),
    Private("hydra.core.override_parser.overrides_parser.OverridesParser.create", "config, sweep: parse overrides"),
    Private("hydra.core.override_parser.types.Override.get_key_element", "config/overrides: keys of overrides"),
    Private("hydra.core.override_parser.types.OverrideType", "bundle: refuse interpolations of strangers"),
    Private("hydra.core.override_parser.types.QuotedString", "config/explain: values as typed"),
    Private(
        "hydra.core.plugins.Plugins.instantiate_launcher", "sweep/workers: launch jobs",
        takes=("hydra_context", "task_function", "config"),
    ),
    Private("hydra.core.singleton.Singleton.get_state", "sweep/workers: a job in another process"),
    Private("hydra.core.singleton.Singleton.set_state", "sweep/workers: a job in another process"),
    Private(
        "hydra.core.utils.run_job", "sweep/workers, search/stages: a job in another process",
        takes=("hydra_context", "task_function", "config", "job_dir_key", "job_subdir_key"),
    ),
    Private("hydra.core.utils.setup_globals", "sweep/workers: a job in another process"),
    Private("hydra.core.utils.JobStatus.FAILED", "sweep/workers: results of jobs"),
    Private("hydra.core.utils.JobReturn._return_value", "sweep/workers: results of jobs"),
    Private("hydra.core.utils.configure_log", "sweep/isolate: logging in a job's process"),
    Private("hydra.core.utils.env_override", "sweep/isolate, tracking/store: environment variables for a moment"),
    Private(
        "hydra_plugins.hydra_ray_launcher._config.RayLauncherConf", "sweep/ray_workers: hydra.launcher.ray",
        takes=("_target_", "ray"),
    ),
    Private(
        "hydra_plugins.hydra_ray_launcher._config.RayConf", "sweep/ray_workers: hydra.launcher.ray",
        takes=("init", "remote"),
    ),
    Private(
        "hydra_plugins.hydra_joblib_launcher.config.JobLibLauncherConf", "sweep/workers: jobs at once",
        takes=("n_jobs",),
    ),
    Private(f"{_SB3}.PPO._n_updates", "learners/sb3: counters for resuming"),
    Private(f"{_SB3}.PPO._episode_num", "learners/sb3: counters for resuming"),
    Private(f"{_SB3}.PPO._last_obs", "learners/sb3: where a resumed rollout begins"),
    Private(f"{_SB3}.PPO._last_original_obs", "learners/sb3: where a resumed rollout begins"),
    Private(f"{_SB3}.PPO._last_episode_starts", "learners/sb3: where a resumed rollout begins"),
    Private(f"{_SB3}.SAC._n_updates", "learners/sb3: counters for resuming"),
    Private(f"{_SB3}.SAC._episode_num", "learners/sb3: counters for resuming"),
    Private(f"{_SB3}.SAC._last_obs", "learners/sb3: where a resumed rollout begins"),
    Private(f"{_SB3}.SAC._last_original_obs", "learners/sb3: where a resumed rollout begins"),
    Private(f"{_SB3}.SAC._current_progress_remaining", "learners/sac: the actor's share of the learning rate"),
    Private(f"{_SB3}.SAC._update_learning_rate", "learners/sac: overridden for the actor", takes=("optimizers",)),
    Private(f"{_SB3}.SAC._setup_model", "learners/sac: overridden for fused optimizers"),
    Private(f"{_SB3}.SAC._total_timesteps", "learners/sac: progress of the schedules"),
    Private(
        f"{_SB3}.SAC._update_current_progress_remaining", "learners/sac: progress of the schedules",
        takes=("num_timesteps", "total_timesteps"),
    ),
    Private(
        f"{_SB3}.SAC._sample_action", "learners/sac: warm-up steps use the current policy",
        takes=("learning_starts", "action_noise", "n_envs"),
    ),
    Private(
        f"{_SB3}.sac.policies.SACPolicy._update_features_extractor", "learners/sac: critics with layer normalisation",
        takes=("net_kwargs", "features_extractor"),
    ),
    Private(f"{_SB3}.common.callbacks.BaseCallback._on_training_start", "learners/callback: overridden"),
    Private(f"{_SB3}.common.callbacks.BaseCallback._on_rollout_start", "learners/callback: overridden"),
    Private(f"{_SB3}.common.callbacks.BaseCallback._on_step", "learners/callback: overridden"),
    Private(f"{_SB3}.common.vec_env.DummyVecEnv._seeds", "learners/vec_env: seeds of the next reset"),
    Private(f"{_SB3}.common.vec_env.DummyVecEnv._reset_seeds", "learners/vec_env: seeds count once"),
    Private(f"{_SB3}.common.vec_env.DummyVecEnv._reset_options", "learners/vec_env: options count once"),
    Private(f"{_SB3}.common.vec_env.DummyVecEnv._get_indices", "learners/vec_env: chosen animals", takes=("indices",)),
    Private(
        "mlflow.store.artifact.artifact_repo.ArtifactRepository._download_file", "tracking/depot: fetch one file",
        takes=("remote_file_path", "local_path"),
    ),
    Private("ray._private.ray_constants.RAY_WORKER_NICENESS", "sweep/ray_workers: jobs have the command's priority"),
    Private("mlflow.store.tracking.sqlalchemy_store", "sweep/isolate: imported before jobs fork"),
    Private("mlflow.utils.mlflow_tags.MLFLOW_PARENT_RUN_ID", "tracking/spool: a stage's run is its lineage's child"),
    Private("mlflow.utils.mlflow_tags.MLFLOW_LOGGED_ARTIFACTS", "sweep/parents: the page shows stages.json as a table"),
    Private("mlflow.utils.mlflow_tags.MLFLOW_RUN_NOTE", "tracking/describe: a run's description"),
    Private(
        "mlflow.system_metrics.metrics.base_metrics_monitor.BaseMetricsMonitor.clear_metrics",
        "tracking/system: MLflow's monitors read the machine",
    ),
    Private("mlflow.telemetry.utils.is_telemetry_disabled", "command line: nothing phones home", says="DO_NOT_TRACK"),
    Private(f"{_MLFLOW}.MLFLOW_DISABLE_TELEMETRY", "command line: nothing phones home"),
    Private(f"{_MLFLOW}.MLFLOW_HTTP_REQUEST_MAX_RETRIES", "tracking/store: a server that is away holds nothing up"),
    Private(f"{_MLFLOW}.MLFLOW_HTTP_REQUEST_TIMEOUT", "tracking/store: a server that is away holds nothing up"),
    Private(f"{_MLFLOW}.MLFLOW_LOGGING_LEVEL", "tracking/store: quiet"),
    Private(f"{_MLFLOW}.MLFLOW_UV_AUTO_DETECT", "tracking/store: a model takes no files of the working directory"),
    Private(f"{_MLFLOW}.MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "tracking/store: nothing holds a store that is moved"),
    Private("os._exit", "sweep/fork_server: ends at once"),
    Private("ray._common.usage.usage_constants", "command line: nothing phones home", says="RAY_USAGE_STATS_ENABLED"),
    Private(
        "ray.tune.schedulers.AsyncHyperBandScheduler", "search/judge: a stand-in for a trial, fed from the journal",
        takes=("time_attr", "metric", "mode", "max_t", "grace_period", "reduction_factor"),
    ),
    Private("ray.tune.schedulers.MedianStoppingRule", "search/judge: pauses nothing", says="get_live_trials"),
    Private("ray.tune.tune", "search/tuning: the command handles signals itself", says="TUNE_DISABLE_SIGINT_HANDLER"),
    Private("torch._dynamo", "sweep/isolate: imported before jobs fork"),
)  # fmt: skip


@cache
def instance(kind: type) -> Any:
    """Return an object whose attributes are made by its constructor."""
    from mlflow import MlflowClient
    from stable_baselines3.common.vec_env import DummyVecEnv

    if kind is MlflowClient:
        return kind("http://127.0.0.1:9")
    if kind is DummyVecEnv:
        return kind([lambda: gym.make("Pendulum-v1")])
    return kind("MlpPolicy", "Pendulum-v1", device="cpu")


def resolve(name: str) -> Any:
    """Return the object of a dotted name.

    Raises:
        AttributeError: it does not exist; the message names the part that is missing.
    """
    parts = name.split(".")
    found, known = None, 0
    for known in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:known]))
            break
        except ModuleNotFoundError:
            continue
    for k, part in enumerate(parts[known:], known):
        if not hasattr(found, part) and isinstance(found, type):
            found = instance(found)
        if not hasattr(found, part):
            raise AttributeError(f"{'.'.join(parts[:k])} has no {part}")
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("private", USED, ids=lambda private: private.name)
def test_private_api_exists(private: Private) -> None:
    try:
        found = resolve(private.name)
    except AttributeError as error:
        pytest.fail(f"{error}; {private.why}")
    if private.takes:
        missing = set(private.takes) - set(inspect.signature(found).parameters)
        assert not missing, f"{private.name} takes no {', '.join(missing)}; {private.why}"
    if private.says:
        assert private.says in inspect.getsource(found), f"{private.name} reads no {private.says}; {private.why}"


def private_imports(tree: ast.AST) -> set[str]:
    """Return the private modules of other libraries that a module imports."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {
        module
        for module in modules - DOCUMENTED
        if not module.startswith("dinorl")
        and (module.startswith("hydra.core.") or any(part.startswith("_") for part in module.split(".")[1:]))
    }


def foreign_attributes(trees: list[ast.Module]) -> set[str]:
    """Return the private attributes that our code reads or calls, but does not define.

    A method that one class of ours calls on ``super()`` and no other class of ours defines is the library's.
    """
    functions: Counter[str] = Counter()
    ours, used, inherited = set(), set(), set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            functions[node.name] += 1
        elif isinstance(node, ast.ClassDef):
            ours.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            ours.add(node.id)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            if owner == "self" and isinstance(node.ctx, ast.Store):
                ours.add(node.attr)
            else:
                (inherited if owner == "super()" else used).add(node.attr)
    return (used - ours - set(functions)) | {name for name in inherited if functions[name] < 2}


def test_private_apis_are_listed() -> None:
    paths = [path for folder in ("dinorl", "hydra_plugins") for path in (ROOT / folder).rglob("*.py")]
    sources = [path.read_text() for path in paths]
    trees = [ast.parse(source) for source in sources]
    listed = [private.name for private in USED]
    last = {name.rpartition(".")[2] for name in listed}
    modules = {module for tree in trees for module in private_imports(tree)}
    unlisted = {module for module in modules if not any(f"{name}.".startswith(f"{module}.") for name in listed)}
    assert not unlisted | (foreign_attributes(trees) - last), "used, but not in USED"
    unused = {name for name in last if name.startswith("_") and not any(name in source for source in sources)}
    assert not unused, "in USED, but not used any more"
