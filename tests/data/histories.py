"""Prints the runs of an MLflow server as JSON: status, parent, steps of the evaluations."""

import json
import sys

from dinorl.tracking import store

client = store.client(sys.argv[1])
runs = client.search_runs([client.get_experiment_by_name("dinorl").experiment_id])
print(
    json.dumps(
        [
            {
                "id": run.info.run_id,
                "status": run.info.status,
                "parent": run.data.tags.get("mlflow.parentRunId"),
                "evaluated": [m.step for m in client.get_metric_history(run.info.run_id, "eval/return_mean")],
            }
            for run in runs
        ]
    )
)
