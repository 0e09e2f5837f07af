"""A saved view of the experiment's table of runs: MLflow shows no metric and no tag there by itself.

MLflow's page keeps saved views as tags of the experiment; it reads them, and ignores columns that do not exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "dinorl"
_TAG = f"mlflow.sharedViewState.{NAME}"
_MADE = 1_790_000_000_000  # ms, when this view was made


def save(client: MlflowClient, experiment: str, columns: Iterable[tuple[str, str]]) -> None:
    """Save the view, if it is not there as it should be.

    Args:
        client: of the server.
        experiment: id.
        columns: (``metrics``, ``params`` or ``tags``; name) of each.
    """
    state = json.dumps({"selectedColumns": [f"{kind}.`{name}`" for kind, name in columns]})
    view = json.dumps({"name": NAME, "createdAt": _MADE, "updatedAt": _MADE, "state": state})
    if client.get_experiment(experiment).tags.get(_TAG) != view:
        client.set_experiment_tag(experiment, _TAG, view)


def page(server: str, experiment: str) -> str:
    """Return the address of the experiment's runs, in this view."""
    where = f"{server.rstrip('/')}/#/experiments/{experiment}/runs"
    return f"{where}?workflowType=machine_learning&viewStateShareKey={NAME}"
