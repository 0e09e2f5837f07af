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
LEAST = 50_000  # bytes; less is not worth trying
HEIGHT, QUALITY = 240, "30"  # px and x264's CRF of a film that is made smaller
POSTER_AT = "1"  # s
TIMEOUT = 60.0  # s, for a film
# Notes.
NO_FILM = "no film"
ELSEWHERE = "the run folder is not on this machine"
DAMAGED = "the film cannot be read"
SMALLER = f"made smaller, {HEIGHT} pixels high"
TOO_LARGE = "left out, the page would be too large"


@dataclass(frozen=True)
class Film:
    """A film of a page.

    Attributes:
        record: the stage run that it shows.
        video: the film as a data uri, or None if it is left out.
        poster: a picture of it as a data uri.
        note: what was done to it, or why it is left out.
        link: the file, if it can be watched there.
    """

    record: StageRecord
    video: str | None = None
    poster: str | None = None
    note: str = ""
    link: Path | None = None


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


def left_out(films: Sequence[Film]) -> dict[str, list[str]]:
    """Return the names of runs whose film is not there as it was, by what was done."""
    found: dict[str, list[str]] = {}
    for film in films:
        if film.note:
            found.setdefault(film.note, []).append(film.record.run.name)
    return found


def _read(record: StageRecord, budget: float, folder: Path) -> tuple[Film, int]:
    """Return a film and its size, bytes."""
    if record.folder is None:
        return Film(record, note=ELSEWHERE), 0
    path = RunFolder(record.folder).video
    if not path.is_file():
        return Film(record, note=NO_FILM), 0
    if budget < LEAST:
        return Film(record, note=TOO_LARGE, link=path), 0
    poster = _poster(path, POSTER_AT) or _poster(path, "0")
    if not poster:
        return Film(record, note=DAMAGED, link=path), 0
    content, note = path.read_bytes(), ""
    if len(content) > min(LARGEST, budget):
        small = folder / "small.mp4"
        _ffmpeg("-i", path, "-vf", f"scale=-2:{HEIGHT}", "-crf", QUALITY, "-pix_fmt", "yuv420p", "-an", small)
        if small.exists():
            content, note = small.read_bytes(), SMALLER
            small.unlink()
    if len(content) > budget:
        return Film(record, None, data_uri("image/jpeg", poster), TOO_LARGE, path), 0
    return Film(record, data_uri("video/mp4", content), data_uri("image/jpeg", poster), note, path), len(content)


def _poster(path: Path, second: str) -> bytes:
    """Return a picture of a film as JPEG; nothing if the film is shorter or damaged."""
    return _ffmpeg("-ss", second, "-i", path, "-frames:v", "1", "-vf", f"scale=-2:{HEIGHT}", "-q:v", "6",
                   "-f", "image2pipe", "-c:v", "mjpeg", "-")  # fmt: skip


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
