"""Framing, request lines, headers, paths and methods."""

from __future__ import annotations

from collections.abc import Iterator

from tests.http.case import CHUNKED, GOOD, HOST, POST, TYPE, Case, case, sized
from tests.http.client import post, request


def framing() -> Iterator[Case]:
    n = len(GOOD)
    yield case("a body that goes on after Content-Length", sized(POST, GOOD, n - 1), 400)
    yield case("two equal Content-Lengths", POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n1", 400)
    yield case("two Content-Lengths", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n" + GOOD, 400)
    for length in ("x", "-1", "+5", "0x10", "1 2", "1,1", "5;", "99999999999999999999999", ""):
        data = POST + f"Content-Length: {length}\r\n\r\n".encode() + GOOD
        yield case(f"Content-Length {length!r}", data, 400, nginx=(400, 413))
    yield case("Content-Length of a gigabyte", POST + b"Content-Length: 1073741824\r\n\r\n" + GOOD, 413)
    both = CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n"
    yield case("Transfer-Encoding and Content-Length", POST + both, 400)
    yield case(
        "Content-Length and Transfer-Encoding", POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400
    )
    for coding in (
        "xchunked",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, identity",
        "\x0bchunked",
    ):
        data = POST + f"Transfer-Encoding: {coding}\r\n\r\n".encode()
        yield case(f"Transfer-Encoding {coding!r}", data + GOOD, 400)
    yield case("chunked", POST + CHUNKED + b'\r\n5\r\n{"key\r\n14\r\n":"@KEY@","value":1}\r\n0\r\n\r\n', 204, key=None)
    yield case("chunked, size zz", POST + CHUNKED + b"\r\nzz\r\n", 400)
    yield case("chunked, size -1", POST + CHUNKED + b"\r\n-1\r\n", 400)
    yield case("chunked, size empty", POST + CHUNKED + b"\r\n\r\n", 400)
    yield case("chunked, size too large", POST + CHUNKED + b"\r\nffffffffffffffffff\r\n", 400, nginx=(400, 413))
    yield case("chunked, longer than said", POST + CHUNKED + b"\r\n3\r\n" + GOOD + b"\r\n0\r\n\r\n", 400)
    yield case("chunked, 17 KiB", POST + CHUNKED + b"\r\n4400\r\n" + b" " * 0x4400 + b"\r\n0\r\n\r\n", 413)
    yield case("a bare line feed in a header", POST + b"X-A: a\nX-B: b\r\nContent-Length: 0\r\n\r\n", 400)


def heads() -> Iterator[Case]:
    get = b"GET /increment/@KEY@ HTTP/1.1\r\n"
    yield case("nonsense", b"nonsense\r\n\r\n", 400)
    yield case("HTTP/0.9", b"GET /increment/@KEY@\r\n\r\n", 400, nginx=(400, 404, 0))
    yield case("HTTP/2.0", b"GET /increment/@KEY@ HTTP/2.0\r\n" + HOST + b"\r\n", 400)
    yield case("HTTP/3.0", b"GET /increment/@KEY@ HTTP/3.0\r\n" + HOST + b"\r\n", 400)
    yield case("HTTP/1.0", b"GET /increment/@KEY@ HTTP/1.0\r\n" + HOST + b"\r\n", 404)
    yield case("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, nginx=(400, 405))
    yield case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60 + b"\r\n\r\n", 400)
    yield case("no Host", get + b"\r\n", 400)
    yield case("Host twice", get + HOST + HOST + b"\r\n", 400)
    yield case("Host of someone else", get + b"Host: evil.example\r\n\r\n", 404)
    yield case("absolute form", b"GET http://tally/increment/@KEY@ HTTP/1.1\r\n" + HOST + b"\r\n", 404)
    yield case("absolute form, POST", sized(b"POST http://tally/increment HTTP/1.1\r\n" + HOST + TYPE, GOOD), 204)
    yield case("absolute form without a path", b"GET http://tally HTTP/1.1\r\n" + HOST + b"\r\n", 400, 404)
    yield case("CONNECT", b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400, nginx=(400, 405))
    yield case("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400, 404, 405)
    yield case("an unknown method", b"BREW /increment HTTP/1.1\r\n" + HOST + b"\r\n", 400, 405)
    yield case("a header without a name", get + HOST + b": x\r\n\r\n", 400, nginx=(400, 404))
    yield case("a header without a colon", get + HOST + b"X\r\n\r\n", 400, nginx=(400, 404))
    yield case("a space before the colon", get + HOST + b"X : y\r\n\r\n", 400, nginx=(400, 404))
    yield case("a folded header", get + HOST + b"X: a\r\n b\r\n\r\n", 400, nginx=(400, 404))
    yield case("a NUL in a header", get + HOST + b"X: a\0b\r\n\r\n", 400)
    yield case("a carriage return in a header", get + HOST + b"X: a\rb\r\n\r\n", 400, nginx=(400, 404))
    many = b"".join(b"X-%d: a\r\n" % i for i in range(150))
    yield case("150 headers", get + HOST + many + b"\r\n", 431)
    yield case("a header of 33 KiB", get + HOST + b"X: " + b"x" * 33 * 1024 + b"\r\n\r\n", 431)
    yield case("headers of 33 KiB", get + HOST + (b"X: " + b"x" * 1000 + b"\r\n") * 34 + b"\r\n", 431)
    yield case("a header of 300 KiB without end", get + HOST + b"X: " + b"x" * 300 * 1024, 431)
    yield case("a URL of 9 KB", b"GET /increment/" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414)
    yield case("a URL of 300 KB without end", b"GET /increment/" + b"x" * 300_000, 414, 431, 400)
    yield case("a key of 2 KB in the path", request("GET", "/increment/" + "x" * 2048), 400)
    yield case("Expect: x", post(GOOD, Expect="x"), 417, nginx=(204,))
    yield case("Expect: 100-continue", post(GOOD, Expect="100-continue"), 204)
    h2c = post(GOOD, Connection="Upgrade, HTTP2-Settings", Upgrade="h2c")
    yield case("Upgrade: h2c", h2c, 400, nginx=(204,))  # the parser leaves the body to the other protocol
    yield case("Upgrade: websocket", request("GET", "/increment/@KEY@", Connection="Upgrade", Upgrade="websocket"), 404)
    yield case("TE: trailers", post(GOOD, TE="trailers"), 204)


def paths() -> Iterator[Case]:
    for target, *statuses in (
        ("/increment/", 404), ("/increment/%00", 400), ("/increment/a%00b", 400), ("/increment/%FF", 400),
        ("/increment/%FE", 400),
        ("/increment/%ED%A0%80", 400), ("/increment/%C0%80", 400), ("/increment/%", 400), ("/increment/%4", 400),
        ("/increment/%zz", 400), ("/increment/%u0041", 400), ("/increment/" + "x" * 513, 400),
        ("/increment/@KEY@%2Fb", 404),
        ("/increment/@KEY@/%2e%2e/b", 404, 400), ("/increment/@KEY@%0d%0aX-Injected:%20yes", 404), ("/", 404),
        ("/x", 404),
        ("/internal/x", 404), ("/metrics", 404), ("/cluster", 404), ("/drain", 404), ("/increments", 404),
        ("/Increment/x", 404),
        ("//increment/x", 404), ("/increment%2Fx", 404), ("/static/x", 404), ("/.env", 404), ("/increment", 405),
        ("/%00", 400, 404), ("/%FF", 400, 404),
    ):  # fmt: skip
        yield case(f"GET {target[:40]}", request("GET", target), *statuses, *((400,) if "%" in target else ()))
    for raw in (b"/increment/a b", b"/increment/\x01", b"/increment/\xff", b"increment", b"", b"\\increment"):
        yield case(f"target {raw!r}", b"GET " + raw + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400, nginx=(400, 404))


def methods() -> Iterator[Case]:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "GET", "HEAD"):
        yield case(f"{method} /increment", request(method, "/increment", GOOD if method[0] == "P" else b""), 405)
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "POST"):
        yield case(f"{method} /increment/<key>", request(method, "/increment/@KEY@"), 405)
    yield case("POST with a query", sized(b"POST /increment?x=1 HTTP/1.1\r\n" + HOST + TYPE, GOOD), 204)
    for target in (b"/increment/", b"/increment//", b"/increment%2F"):
        sent = sized(b"POST %b HTTP/1.1\r\n" % target + HOST + TYPE, GOOD)
        yield case(f"POST {target!r}", sent, 405 if target == b"/increment//" else 404)
    yield case("GET /readyz/", request("GET", "/readyz/"), 404)
    yield case("POST /cluster", request("POST", "/cluster"), 404)
    yield case("POST /drain", request("POST", "/drain"), 404)
    yield case("HEAD of an unknown key", request("HEAD", "/increment/@KEY@"), 404)
    yield case("OPTIONS /increment", request("OPTIONS", "/increment"), 200, 204, 405)


def head_cases() -> Iterator[Case]:
    for group in (framing, heads, paths, methods):
        yield from group()
