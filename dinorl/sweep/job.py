"""One job of a plan: trains a composed config in its run folder and writes its status."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dinorl.config import Config, build
from dinorl.files.process import unbreakable_output
from dinorl.files.run_folder import RunFolder, locked, read_status, write_status
from dinorl.tracking.describe import GROUPS
from dinorl.tracking.listener import Listener
from dinorl.training.interrupt import Interruption

log = logging.getLogger(__name__)
PATIENCE = 10.0  # s, for another process to end

_DISK_FULL = (
    "the disk of {} is full; the bundles on it are whole. Make room and type the same command again: the run is "
    "resumed from the last of them (eval.keep is how many there are)"
)


def busy(folder: Path) -> str:
    """Return the message for a run folder that another process holds."""
    pid = (read_status(folder) or {}).get("pid", "?")
    return f"process {pid} still trains in {folder}; end it, or wait for it"


def run(
    cfg: DictConfig, listeners: Iterable[Listener] = (), interruption: Interruption | None = None
) -> dict[str, Any]:
    """Train one stage; the task function of every launcher.

    Args:
        cfg: the composed config.
        listeners: receive metrics beside the tracker.
        interruption: to use instead of an own one.

    Returns:
        The content of ``status.json``: ``status`` is DONE, PRUNED, FAILED or INTERRUPTED, with ``error``.

    Raises:
        RuntimeError: another process trains in the folder.
    """
    unbreakable_output()
    folder = Path(HydraConfig.get().runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder, PATIENCE))  # a worker may outlive its command
        except BlockingIOError as error:
            raise RuntimeError(busy(folder)) from error
        return _run(cfg, folder, listeners, interruption)


def _chosen() -> dict[str, str]:
    """Return the options of the groups in :data:`dinorl.tracking.describe.GROUPS`."""
    choices = HydraConfig.get().runtime.choices
    return {group: str(choices[group]) for group in GROUPS if choices.get(group) is not None}


def _run(
    cfg: DictConfig, folder: Path, listeners: Iterable[Listener], interruption: Interruption | None
) -> dict[str, Any]:
    begun = time.time()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    own = {"started": started, "host": platform.node(), "pid": os.getpid()}
    handler = _log_to(RunFolder(folder).log)
    tracker: Any = None
    courier: Any = None
    outcome: dict[str, Any] = {"status": "FAILED", "gate": "none", "error": None}
    try:
        write_status(folder, status="RUNNING", **own)
        config = build(cfg)
        from dinorl.tracking.tracker import Tracker
        from dinorl.training import resume
        from dinorl.training.gate import STOPPED
        from dinorl.training.stage import run_stage

        courier = _courier(config, folder)
        tracker = Tracker(config, folder, travels=courier is not None, chosen=_chosen())
        tracker.start()
        if courier is not None:
            tracker.flush()
            courier.start()
            listeners = [*listeners, courier]
        with interruption or Interruption() as interruption:
            result = run_stage(config, folder, [tracker, *listeners], interruption)
            final = {"status": "DONE"}
            if result.gate == STOPPED:
                final = {"status": "PRUNED", "error": "a listener stopped it"}
            # resumable until the status is final
            tracker.end(final["status"], result.gate)
            outcome = write_status(folder, **outcome | final | asdict(result), **own)
            with contextlib.suppress(OSError):
                resume.finish(folder)
            _diagnose(result.gate, folder, tracker)
        if interruption.signum:  # the stage is done
            raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        if outcome["status"] not in ("DONE", "PRUNED"):
            outcome |= {"status": "INTERRUPTED", "error": f"interrupted ({str(error) or 'SIGINT'})"}
        raise
    except (Exception, SystemExit) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        log.error("%s", error if full else traceback.format_exc())
        outcome["error"] = _DISK_FULL.format(folder) if full else f"{type(error).__name__}: {error}"
    finally:
        try:
            if tracker is not None:
                tracker.close(outcome["status"], outcome["gate"])
        finally:  # a second Ctrl-C ends only the wait
            if tracker is not None:
                outcome["mlflow_run"] = tracker.run_id
            outcome |= own | {"wall_s": round(time.time() - begun, 2)}
            write_status(folder, **outcome)
            if courier is not None:
                courier.close()
            logging.getLogger().removeHandler(handler)
            handler.close()
    return outcome


def _courier(config: Config, folder: Path) -> Any:
    """Fetch what the job needs and return who carries its bundles, or None if they do not travel."""
    if config.tracking.bundles is None:
        return None
    from dinorl.tracking.courier import Courier

    courier = Courier(config, folder)
    courier.fetch()
    return courier


def _diagnose(gate: str, folder: Path, tracker: Listener) -> None:
    """Say which symptoms of the playbook a stage has that missed its gate; an error is only logged."""
    try:
        from dinorl.training.gate import MISSED
        from dinorl.verdicts.diagnosis import in_short

        for line in in_short(folder) if gate in MISSED else ():
            tracker.say(line)
    except Exception:
        log.exception("no diagnosis")


def _log_to(path: Path) -> logging.Handler:
    """Log to the run's own file; the terminal has the progress bar."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler
