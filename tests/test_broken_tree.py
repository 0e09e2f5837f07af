"""What people break in the files themselves: one message with file and line, before anything is begun."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import dinorl

ROOT = Path(__file__).resolve().parent.parent
BALANCE, LOCOMOTION = "conf/recipe/default/trex/balance.yaml", "conf/recipe/default/trex/locomotion.yaml"
MODEL = "dinorl/species/trex/trex.xml"


def append(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text() + text)


def replace(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


BROKEN = {
    "a list that is never closed": (BALANCE, append("  eval: [1\n"), [BALANCE, "line 1", "expected YAML"]),
    "a tab": ("conf/base/ppo.yaml", replace("\nn_steps", "\n\tn_steps"), ["conf/base/ppo.yaml, line 5", "'\\t'"]),
    "two values": (BALANCE, append("env:\n  alive_bonus: 1: 2\n"), [BALANCE, "line", "expected YAML"]),
    "no recipe": (LOCOMOTION, Path.unlink, [LOCOMOTION, "there is no recipe"]),
    "no sensor": (MODEL, replace('name="foot_l_touch"', 'name="touch"'), [MODEL, "no sensor 'foot_l_touch'"]),
    "no XML": (MODEL, replace("<worldbody>", "<worldbody>>\n<<"), [MODEL, "does not compile", "Line number="]),
    "no MJCF": (MODEL, replace('type="sphere"', 'type="ball"'), [MODEL, "does not compile", "line"]),
    "no model": (MODEL, Path.unlink, [MODEL, "does not exist"]),
    "a stray key": (BALANCE, append("curriculum_: {timesteps: 1}\n"), ["curriculum_.timesteps", "no such key"]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_file_reports_line(what: str, tmp_path: Path) -> None:
    name, breaks, said = BROKEN[what]
    for folder in ("conf", "dinorl", "hydra_plugins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("zoo", "local"))
    breaks(tmp_path / name)
    done = dinorl(tmp_path, "species=trex", timeout=60.0)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("dinorl: ") and "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr
    assert not (tmp_path / "outputs").exists()
