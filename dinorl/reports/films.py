"""Films within a page: H.264 as it is, made smaller, or left out, so that the page can be mailed."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorl.files.run_folder import RunFolder
from dinorl.reports.stages import StageRecord

MEGABYTE = 1_000_000
LARGEST = 1 * MEGABYTE  # of a film that is taken as it is
HEIGHT, QUALITY = 240, "30"  # px and x264's CRF of a film that is made smaller
POSTER_AT, POSTER_HEIGHT = "1", 240  # s, px
TIMEOUT = 60.0  # s, for a film


@dataclass(frozen=True)
class Film:
    """A film of a page.

    Attributes:
        record: the stage run that it shows.
        video: the film as a data uri, or None if it is left out.
        poster: a picture of it as a data uri.
        note: what was done to it, or why it is left out.
    """

    record: StageRecord
    video: str | None = None
    poster: str | None = None
    note: str = ""


def read_films(records: Sequence[StageRecord], budget: float) -> list[Film]:
    """Return the films of stage runs, the first ones while they fit.

    Args:
        records: the most important first.
        budget: of all films together, bytes.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for record in records:
            film, size = _read(record, budget, Path(folder))
            budget -= size
            found.append(film)
    return found


def _read(record: StageRecord, budget: float, folder: Path) -> tuple[Film, int]:
    """Return a film and its size, bytes."""
    if record.folder is None:
        return Film(record, note="its run folder is not on this machine"), 0
    path = RunFolder(record.folder).video
    if not path.is_file():
        return Film(record, note="no film"), 0
    if budget < 1:
        return Film(record, note="left out: the page would be too large"), 0
    poster = _ffmpeg("-ss", POSTER_AT, "-i", path, "-frames:v", "1", "-vf", f"scale=-2:{POSTER_HEIGHT}", "-q:v", "6",
                     "-f", "image2pipe", "-c:v", "mjpeg", "-")  # fmt: skip
    if not poster:
        return Film(record, note="its film cannot be read"), 0
    content, note = path.read_bytes(), ""
    if len(content) > min(LARGEST, budget):
        small = folder / "small.mp4"
        _ffmpeg("-i", path, "-vf", f"scale=-2:{HEIGHT}", "-crf", QUALITY, "-pix_fmt", "yuv420p", "-an", small)
        before, content = len(content), small.read_bytes() if small.exists() else content
        small.unlink(missing_ok=True)
        note = f"made smaller, from {before / MEGABYTE:.1f} to {len(content) / MEGABYTE:.1f} MB"
    if len(content) > budget:
        return Film(record, None, data_uri("image/jpeg", poster), "left out: the page would be too large"), 0
    return Film(record, data_uri("video/mp4", content), data_uri("image/jpeg", poster), note), len(content)


def _ffmpeg(*arguments: str | Path) -> bytes:
    """Run imageio's ffmpeg and return what it prints; nothing if it fails."""
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def data_uri(kind: str, content: bytes) -> str:
    """Return content of a MIME type as a data uri."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
