"""The README's lines about containers, and its curl lines against them; another port than the one it names.

UP, IMAGES and DOWN are run by the fixture (conftest.py), SCALE, BUILD and ROLL by test_scale.py, under load.
"""

from __future__ import annotations

from tests.compose import lines
from tests.compose.stack import Stack
from tests.readme import IN_CONTAINERS, with_output


def test_every_line_about_containers_is_run_by_a_test_here() -> None:
    assert sorted(IN_CONTAINERS) == sorted(lines.ALL)


def test_the_curl_lines_answer_what_is_written_beside_them(stack: Stack) -> None:
    for curl, output in with_output("curl"):
        assert "localhost:3333" in curl
        answer = stack.shell(curl.replace("localhost:3333", f"localhost:{stack.port}"))
        said = [line.lower() for line in answer.splitlines()]
        for line in output:
            assert line.lower() in said


def test_the_attack_from_a_container_fails_no_request_and_passes_its_audit(stack: Stack) -> None:
    said = stack.shell(lines.ATTACK).splitlines()
    assert said[-1].split() == ["audit", "passed"]
    numbers = {line.split()[0]: line.split()[1] for line in said if len(line.split()) == 2}
    assert [numbers[name] for name in ("failed", "lost", "doubled")] == ["0", "0", "0"]
