"""`test --require-all`, on small test files of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.local.testing import phases

ROOT = Path(__file__).resolve().parents[4]


def run(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "cluster.local.testing", "-p", "no:cacheprovider", "-rs"]
    return subprocess.run(
        [*command, f"--rootdir={folder}", "-c", "/dev/null", *arguments, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "text",
    [
        "import pytest\n\ndef test_a():\n    pytest.skip('no nginx')\n",
        "import pytest\n\n@pytest.mark.skip(reason='no nginx')\ndef test_a():\n    pass\n\ndef test_b():\n    pass\n",
        "import pytest\n\npytest.skip('no nginx', allow_module_level=True)\n",
    ],
)
def test_a_skipped_test_fails_the_run_only_when_all_are_required(tmp_path: Path, text: str) -> None:
    text += "\n"
    (tmp_path / "test_other.py").write_text("def test_c():\n    pass\n")
    assert run(tmp_path, text).returncode == 0
    required = run(tmp_path, text, "--require-all")
    assert required.returncode == 1
    assert "1 skipped, and nothing may be skipped here" in required.stdout


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    text = "import pytest\n\n@pytest.mark.xfail\ndef test_a():\n    assert False\n"
    assert run(tmp_path, text, "--require-all").returncode == 0


def test_the_two_phases_run_each_test_once(tmp_path: Path) -> None:
    text = "import pytest\n\n@pytest.mark.alone\ndef test_a():\n    pass\n\ndef test_b():\n    pass\n"
    ini = tmp_path / "pytest.ini"
    ini.write_text("[pytest]\nmarkers = alone\n")
    first, second = (run(tmp_path, text, *phase, "-v", "-c", str(ini)) for phase in phases())
    assert (first.returncode, second.returncode) == (0, 0)
    assert ("test_b" in first.stdout, "test_a" in first.stdout) == (True, False)
    assert ("test_b" in second.stdout, "test_a" in second.stdout) == (False, True)
