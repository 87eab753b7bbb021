"""Down and up again: what the volumes keep of the last run disturbs nobody."""

from __future__ import annotations

import urllib.error
import urllib.request

from tests.chaos.local_cluster import until
from tests.compose import lines
from tests.compose.stack import Stack, docker


def status(url: str) -> int | None:
    """Of an increment; None while nothing answers there."""
    try:
        with urllib.request.urlopen(f"{url}/increment", b"key=again&value=1", timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_brought_up_again_nginx_serves_its_first_request(stack: Stack) -> None:
    """It starts when nodes of this run are ready, though the balancer's volume has those of the last one."""
    stack.until_nodes(3)
    docker("kill", stack.container("balancer"))  # or it might empty its list while the nodes leave
    stack.shell(lines.DOWN)
    stack.shell(lines.UP.removesuffix(" --build"))
    assert until(lambda: status(stack.url), "nginx answers") == 204
    stack.until_nodes(3)
