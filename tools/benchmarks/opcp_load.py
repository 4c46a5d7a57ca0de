"""Send prepared HTTP requests over a few connections, and print the times of their answers.

    opcp_load.py PORT CONNECTIONS RATE < requests

`requests`: a marshalled list of whole HTTP/1.1 requests. RATE: requests per second, which arrive
at random moments, and wait here while the server is slow; that wait counts.
0: the next request as soon as a connection is free. Prints JSON: "seconds" for all of them, "rate"
(answers per second, after a first quarter that warms the caches), "latencies" in
milliseconds, sorted, "statuses", "cpu" (share of one core spent here), "refused" (the first answer
that is not a success).

Plain sockets and nothing else, because it shares the cores with the server.
"""

import json
import marshal
import random
import select
import socket
import sys
import time
from collections import Counter, deque


def arrivals(count: int, rate: float) -> list[float]:
    """Seconds from the start at which requests arrive."""
    chance, at, moments = random.Random(1), 0.0, []  # the same moments each time
    for _ in range(count):
        moments.append(at)
        at += chance.expovariate(rate) if rate else 0.0
    return moments


def is_complete(answer: bytes) -> bool:
    """Whether an HTTP/1.1 answer with a Content-Length has arrived as a whole."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = answer.index(b"content-length: ") + 16
    return len(answer) >= head + 4 + int(answer[at : answer.index(b"\r", at)])


def run(port: int, connections: int, rate: float, requests: list[bytes]) -> dict[str, object]:
    due = arrivals(len(requests), rate)
    poll, sockets = select.epoll(), {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    free, began, answers = deque(sockets), {}, dict.fromkeys(sockets, b"")
    statuses: Counter[str] = Counter()
    latencies, refused, sent, warm, warm_at = [], None, 0, len(requests) // 4, 0.0
    cpu, start = time.process_time(), time.perf_counter()
    while len(latencies) < len(requests):
        now = time.perf_counter() - start
        while sent < len(requests) and free and due[sent] <= now:
            at = free.popleft()
            began[at] = due[sent] if rate else now
            sockets[at].sendall(requests[sent])
            sent += 1
        pause = max(0.0, due[sent] - now) if sent < len(requests) and free else -1
        for at, _ in poll.poll(pause):
            answer = answers[at] + sockets[at].recv(1 << 16)
            if not is_complete(answer):
                answers[at] = answer
                continue
            answers[at] = b""
            now = time.perf_counter() - start
            latencies.append((now - began[at]) * 1000)
            if len(latencies) == warm:
                warm_at = now
            status = answer[9:12].decode()
            statuses[status] += 1
            if status[0] != "2" and refused is None:
                refused = answer.decode(errors="replace")
            free.append(at)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "rate": (len(requests) - warm) / (seconds - warm_at),
        "latencies": sorted(latencies),
        "statuses": statuses,
        "cpu": (time.process_time() - cpu) / seconds,
        "refused": refused,
    }


if __name__ == "__main__":
    port, connections, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(run(port, connections, rate, marshal.loads(sys.stdin.buffer.read()))))
