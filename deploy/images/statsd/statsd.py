"""What arrives on UDP 8125, by metric: counters summed, of anything else how many came; printed every ten seconds."""

import socket
import time
from collections import Counter

EVERY_S = 10.0


def read(line: str, sums: Counter[str]) -> None:
    """name:value|type[|...]"""
    name, _, rest = line.partition(":")
    value, _, kind = rest.partition("|")
    if not kind:
        return
    counter = kind.split("|")[0] == "c"
    sums[name if counter else f"{name} ({kind.split('|')[0]})"] += int(float(value)) if counter else 1


def main() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("0.0.0.0", 8125))
    listener.settimeout(1.0)
    sums: Counter[str] = Counter()
    shown_at = time.monotonic()
    while True:
        try:
            for line in listener.recv(65536).decode("utf-8", "replace").splitlines():
                read(line, sums)
        except (TimeoutError, ValueError):
            pass
        if time.monotonic() - shown_at >= EVERY_S:
            print(" ".join(f"{name}={count}" for name, count in sorted(sums.items())) or "nothing")
            sums.clear()
            shown_at = time.monotonic()


main()
