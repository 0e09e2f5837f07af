"""Puts ``conf/``, which people edit beside the package in a checkout, into the wheel as ``dinorl/conf``.

Everything else about the project is in pyproject.toml.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """``build_py`` that treats ``conf/`` as data of the package, for wheels and source archives alike."""

    def _get_data_files(self):
        conf = sorted(path.relative_to("conf").as_posix() for path in Path("conf").rglob("*.yaml"))
        shipped = [name for name in conf if not name.startswith("local/")]
        return [*super()._get_data_files(), ("dinorl", "conf", str(Path(self.build_lib, "dinorl", "conf")), shipped)]


setup(cmdclass={"build_py": BuildWithConf})
