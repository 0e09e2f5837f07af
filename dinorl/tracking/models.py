"""Logs bundles as MLflow models and registers them; the alias ``best`` moves only to a better one."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorl.config.secrets import hide
from dinorl.files.provenance import versions
from dinorl.tracking.store import alone

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException

log = logging.getLogger(__name__)

ALIAS = "best"
RANK, BODY = "rank", "mjcf_sha256"  # tags of a version
# What a model needs to act.
_PACKAGES = ("dinorl", "mlflow", "mujoco", "numpy", "stable_baselines3", "torch")


def log_model(client: MlflowClient, run_id: str, bundle: Path, about: Mapping[str, Any]) -> None:
    """Log a bundle as a run's model and register it, once.

    A server that refuses is logged; other errors are raised, to try again.

    Args:
        client: of the server.
        run_id: of the stage.
        bundle: its folder.
        about: ``name``, ``loader``, ``files``, ``example``, ``actions``, ``rank`` and ``tags`` of the model.
    """
    from mlflow.exceptions import MlflowException

    try:
        model_id = _logged(client, run_id, bundle, about)
        with alone(client.tracking_uri):  # the alias is compared and moved at once
            _register(client, run_id, model_id, about)
    except MlflowException as error:
        if _broken(error):
            raise
        log.warning("tracking: MLflow takes no model %s: %s", about["name"], hide(str(error)))


def _logged(client: MlflowClient, run_id: str, bundle: Path, about: Mapping[str, Any]) -> str:
    """Return the id of the run's model; log it if missing."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    if run.outputs is not None and run.outputs.model_outputs:
        return str(run.outputs.model_outputs[0].model_id)
    model = client.create_logged_model(
        run.info.experiment_id, about["name"], run_id, tags=dict(about["tags"]), model_type="policy"
    )
    try:
        with tempfile.TemporaryDirectory(prefix="dinorl-") as scratch:
            folder = Path(scratch) / "model"
            _save(folder, bundle, about, run_id, model.model_id)
            client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=about["step"])])
    except BaseException:
        with contextlib.suppress(Exception):
            client.delete_logged_model(model.model_id)
        raise
    return str(model.model_id)


def _save(folder: Path, bundle: Path, about: Mapping[str, Any], run_id: str, model_id: str) -> None:
    """Write the model's folder."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    data = folder.with_name("bundle")
    data.mkdir()
    for name in about["files"]:
        shutil.copyfile(bundle / name, data / name)
    example = np.asarray([about["example"]], dtype=np.float32)
    kind = example.dtype
    pyfunc.save_model(
        folder,
        loader_module=about["loader"],
        data_path=data,
        mlflow_model=Model(artifact_path=about["name"], run_id=run_id, model_id=model_id),
        signature=ModelSignature(
            Schema([TensorSpec(kind, (-1, example.shape[1]))]), Schema([TensorSpec(kind, (-1, about["actions"]))])
        ),
        input_example=example,
        pip_requirements=[
            f"{name}=={version.partition('+')[0]}" for name, version in versions().items() if name in _PACKAGES
        ],
    )


def _register(client: MlflowClient, run_id: str, model_id: str, about: Mapping[str, Any]) -> None:
    """Register a run's model if it is not, and move the alias to it if it is better."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    name, tags = about["name"], {**about["tags"], RANK: json.dumps(about["rank"])}
    known = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if known:
        version = known[0]
    else:
        try:
            client.create_registered_model(name, description=about["description"])
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        # not models:/…, which an embedded registry looks for in MLflow's default store
        place = client.get_logged_model(model_id).artifact_location
        version = client.create_model_version(name, place, run_id, tags, model_id=model_id)
    best = _best(client, name)
    if best is None or better(tags, best.tags):
        client.set_registered_model_alias(name, ALIAS, version.version)


def _best(client: MlflowClient, name: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if _broken(error):
            raise
        return None  # not set, or its version was deleted


def _broken(error: MlflowException) -> bool:
    """Whether a server failed, instead of refusing."""
    return bool(error.get_http_status_code() >= 500)  # type: ignore[no-untyped-call]


def better(new: Mapping[str, str], best: Mapping[str, str]) -> bool:
    """Whether a version takes the alias from another: by rank, if both act in the same body.

    A version without a rank was registered by hand; it keeps the alias.

    Args:
        new, best: tags of the versions.
    """
    if RANK not in best:
        return False
    return new.get(BODY) != best.get(BODY) or bool(json.loads(new[RANK]) > json.loads(best[RANK]))
