"""Libraries of Redis functions and their versions."""

from __future__ import annotations

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ResponseError

from cluster.functions import Library

TEXT = """#!lua name=test_VERSION
redis.register_function('tally_add_VERSION', function(keys, args)
  if args[1] == 'fail' then return redis.error_reply('ERR broken') end
  return redis.call('INCRBY', keys[1], args[1])
end)
"""


def test_the_version_is_a_digest_of_the_text_and_stands_in_every_name() -> None:
    one, same, other = Library(TEXT), Library(TEXT), Library(TEXT + "\n")
    assert one.version == same.version != other.version
    assert "VERSION" not in one.code
    assert one.function("add") in one.code
    assert f"name=test_{one.version}" in one.code


@pytest.mark.parametrize(("package", "name"), [("cluster", "registry.lua"), ("node", "log.lua")])
def test_our_libraries_carry_their_version(package: str, name: str) -> None:
    library = Library.of(package, name)
    first, *_ = library.code.splitlines()
    assert first.startswith("#!lua name=")
    assert library.version in first


async def test_a_server_that_does_not_know_the_function_gets_the_library() -> None:
    library = Library(TEXT)
    async with FakeAsyncRedis() as redis:
        assert await library.call(redis, "add", ["a"], [5]) == 5
        assert await library.call(redis, "add", ["a"], [5]) == 10
        await redis.flushall()
        await redis.function_flush()
        assert await library.call(redis, "add", ["a"], [5]) == 5


async def test_loading_again_is_no_error() -> None:
    async with FakeAsyncRedis() as redis:
        for _ in range(2):
            await Library(TEXT).load(redis)


async def test_two_versions_live_side_by_side() -> None:
    old, new = Library(TEXT), Library(TEXT.replace("args[1])", "args[1] * 10)"))
    async with FakeAsyncRedis() as redis:
        for _ in range(2):
            assert await old.call(redis, "add", ["old"], [1]) in (1, 2)
            assert await new.call(redis, "add", ["new"], [1]) in (10, 20)


async def test_an_error_of_the_function_is_the_callers_and_is_not_tried_again() -> None:
    library = Library(TEXT)
    async with FakeAsyncRedis() as redis:
        with pytest.raises(ResponseError, match="broken"):
            await library.call(redis, "add", ["a"], ["fail"])


async def test_a_library_that_redis_cannot_compile_is_an_error() -> None:
    async with FakeAsyncRedis() as redis:
        with pytest.raises(ResponseError):
            await Library("#!lua name=bad_VERSION\nthis is no Lua").load(redis)
