"""What is installed is all of Veza: the files that are no Python as well."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {".py", ".pyc"}


def test_every_file_that_veza_reads_comes_along_in_its_package() -> None:
    package = ROOT / "veza"
    told = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["veza"]
    packed = {path for pattern in told for path in package.glob(pattern) if path.is_file()}
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix not in SOURCES}
    assert there - packed == set()


def test_what_is_not_set_up_is_not_loaded() -> None:
    """Redis and buckets: a quarter of the CPU of a start, which who has neither does without."""
    program = "import sys, veza.commands; print(*{'boto3', 'botocore', 'coredis'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "\n"
