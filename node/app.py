"""One node's life, from start to drain.

start   listen, open the stores, write, join the registry, serve
drain   be "draining" in the registry (others take the partitions, nginx drops this node), serve on for a moment, stop
        accepting, answer what was taken, settle when nobody else will, leave
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack

from cluster.view import Member
from node import advertise, pulse
from node.config import Config
from node.errors import Unavailable
from node.parts import Parts
from node.points import reach

log = logging.getLogger(__name__)

READY_POLL_S = 0.02
LEAVE_TIMEOUT_S = 5.0


async def run(config: Config) -> None:
    """A node's whole life. Returns after a drain; raises when a part of it that must not end has ended."""
    async with AsyncExitStack() as stack:
        await Node(config).live(stack)


class Node:
    """The order in which the parts start and stop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._drain = asyncio.Event()

    async def live(self, stack: AsyncExitStack) -> None:
        parts = await Parts.open(self._config, stack, self._drain.is_set, self.drain)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        async with asyncio.TaskGroup() as vital:  # when one of these ends with an error, so does the node
            loops = self._start(parts, vital)
            servers = [vital.create_task(each.run()) for each in parts.servers]
            while parts.writer.trouble is not None and not self._drain.is_set():
                await asyncio.sleep(READY_POLL_S)
            await parts.agent.become("ready")
            log.info("%s serves %s, operations on %s", *_names(parts.agent.member))
            await self._drain.wait()
            await self._leave(parts, servers)
            for task in loops:
                task.cancel()

    def drain(self) -> None:
        """Asked once: leave in good order. Asked twice: end now."""
        if self._drain.is_set():
            os._exit(1)
        self._drain.set()

    def _start(self, parts: Parts, vital: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        loops = [
            parts.agent.run(),  # first: nobody waits for a writer without a lease
            parts.writer.run(),
            parts.reader.run(),
            parts.settler.run(),
            parts.meter.run(),
            parts.namespaces.run(),
            parts.roller.run(),
            *(each.run() for each in (*parts.direct, parts.guard) if each is not None),
            pulse.follow(parts.pulse.answers, parts.agent.offer),
        ]
        if self._config.advertise_alias:

            async def moved(host: str) -> None:
                await parts.agent.move(*parts.sockets.urls(host))

            loops.append(advertise.follow(self._config.advertise_alias, parts.host, moved))
        return [vital.create_task(each) for each in loops]

    async def _leave(self, parts: Parts, servers: list[asyncio.Task[None]]) -> None:
        log.info("draining")
        try:
            async with asyncio.timeout(self._config.drain_deadline_ms / 1000):
                await parts.agent.become("draining")
                await asyncio.sleep(self._config.drain_notice_ms / 1000)
                for each in parts.servers:
                    each.stop()
                await asyncio.gather(parts.writer.drain(), *(each.drain() for each in parts.direct))
                await asyncio.gather(*servers)
                reach("drained")
                await self._settle_if_last(parts)
        except TimeoutError:
            log.error("gave up draining after %d ms", self._config.drain_deadline_ms)
        await _strike_off(parts)
        await parts.agent.leave()
        parts.meter.close()
        log.info("left")

    async def _settle_if_last(self, parts: Parts) -> None:
        """When nobody is ready to own the partitions, what they hold is settled here. Each leaver of a cluster that
        ends does so after its own last answer, so the last one's settle covers every acknowledged increment."""
        await parts.agent.beat()
        if parts.agent.view.ready:
            return
        partitions = frozenset(range(self._config.partitions))
        try:
            await parts.settler.settle(partitions)
            await parts.roller.roll_up(partitions)
        except Unavailable as error:
            log.warning("not everything is settled (%s); it is kept in Redis for the next start", error)


async def _strike_off(parts: Parts) -> None:
    try:
        async with asyncio.timeout(LEAVE_TIMEOUT_S):
            await parts.comeback.leave()
    except (Unavailable, TimeoutError) as error:
        log.warning("could not be struck off the list of writers: %s", error)


def _names(member: Member) -> tuple[str, str, str]:
    return member.id, member.url, member.ops_url
