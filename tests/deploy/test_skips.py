"""A run in which something was skipped is not green by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_that_needs_a_tool(number):
    pytest.skip("the tool is not installed")

def test_that_needs_none():
    pass
"""


def test_skipped_tests_fail_the_run_unless_allowed(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    counted = tmp_path / "skipped"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    codes = []
    for arguments in ([], ["--allow-skips"], ["--allow-skips", "-k", "none"]):
        run = subprocess.run(
            [*command, *arguments],
            env=os.environ | {"SKIPPED_CHECKS": str(counted)},
            capture_output=True,
            check=False,
        )
        codes.append(run.returncode)
    assert codes == [pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.OK, pytest.ExitCode.OK]
    assert counted.read_text() == 2 * "3 of tests/deploy (the tool is not installed)\n"
