"""Live progress of a stage: a bar in a terminal, else a plain line now and then."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from dinorl.tracking.listener import Progress

PLAIN_EVERY = 10.0  # s
CLOSE_TIMEOUT = 2.0  # s, for a terminal that takes no output
WAITING = 1000  # lines; later ones are not shown


class StageProgress:
    """Shows the progress of a stage.

    A thread writes, since a stopped terminal or a full pipe would stop the training too.

    Args:
        title: of the stage, such as ``T. rex 2/3 locomotion (sac)``.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.console = Console(highlight=False)
        self._bar: Bar | None = None
        self._next_line = 0.0
        self._queue: queue.Queue[Progress | str | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="display", daemon=True)
        self._thread.start()

    def update(self, progress: Progress) -> None:
        """Show the progress."""
        if self._queue.empty():  # else a newer one will be shown
            self._put(progress)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._put(text)

    def close(self) -> None:
        """Show what is waiting, remove the bar and end the thread."""
        self._put(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _put(self, item: Progress | str | None) -> None:
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(item)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, str):
                self._print(item)
            else:
                self._show(item)
        if self._bar is not None:
            self._bar.stop()

    def _show(self, progress: Progress) -> None:
        step, total = progress.step, progress.total
        text = (
            f"{progress.rate:,.0f} steps/s  return {progress.episode_return:.1f}  "
            f"length {progress.episode_length:.0f}  gate {progress.gate}"
        )
        if self.console.is_terminal:
            if self._bar is None:
                self._bar = Bar(
                    TextColumn("{task.description}"), BarColumn(),
                    TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                    TextColumn("{task.fields[text]}"), TimeRemainingColumn(), console=self.console, transient=True,
                )  # fmt: skip
                self._bar.add_task(self.title, total=total, text=text)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=step, text=text)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_EVERY
            left = (total - step) / progress.rate if progress.rate > 0 else float("nan")
            self._print(f"{step:,}/{total:,}  {text}  {left:.0f} s left")

    def _print(self, text: str) -> None:
        self.console.print(f"{self.title}: {text}", markup=False, soft_wrap=True)
