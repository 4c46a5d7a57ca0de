"""Channels over one noisy line: every message arrives whole, in order, exactly once.

Frames (`evcc.link.frame`) carry numbered fragments of messages. The receiver acknowledges what it
has (a cumulative number, and a bitmap of the sixteen after it) and echoes the stamp of the last
transmission it saw. A line does not reorder, so every frame sent before that one and not
acknowledged is lost, and is sent again at once. A timer covers a lost acknowledgement. Fragments
get shorter while the line is noisy: a short frame is damaged less often.

Each end has an epoch, a random number of its start. A HELLO frame carries it; the CRC of all other
frames includes both epochs, so frames of a peer before its restart count as noise. When the peer
restarts, the messages queued for it are dropped. The queue for a peer that takes nothing is
bounded by channel: `send` refuses more, and the caller decides.

Sans-I/O: the caller moves the bytes and gives the time. Does not authenticate the peer.
"""

import binascii

from evcc.errors import EvccError
from evcc.link import frame

CONTROL = 0
SESSION = 1
TELEMATICS = 2
VAULT = 3
LOG = 4
NAMES = {
    CONTROL: "control",
    SESSION: "session",
    TELEMATICS: "telematics",
    VAULT: "vault",
    LOG: "log",
}

# Bytes of the longest message of each channel; a longer one is refused before it is collected.
LIMITS = {CONTROL: 4096, SESSION: 8192 + 8, TELEMATICS: 4096, VAULT: 4096, LOG: 512}

# Bytes that may wait on each channel, `EACH` more for every message: two of the longest messages
# of the channels with answers, and one of SESSION and VAULT with a small message beside it.
QUEUES = {CONTROL: 9216, SESSION: 9216, TELEMATICS: 9216, VAULT: 5120, LOG: 4096}
EACH = 32

_HELLO = b"\x01PV1"
_ACK = 0x02
_DATA = 0x80
_FIRST = 0x40
_LAST = 0x20
_CHANNEL = 0x0F
_ACK_BYTES = 5
_DATA_BYTES = 7
_TOTAL_BYTES = 3

_WINDOW = 16  # the bitmap's size
_LONGEST = 240  # bytes of a message in one frame
_INITIAL = 60
_SHORTEST = 30
_CLEAN_RUN = 16  # frames in a row without a loss before fragments grow again
_FRAME_LIMIT = _DATA_BYTES + _TOTAL_BYTES + _LONGEST

_HELLO_MS = 200
_TIMEOUT_MS = 500  # until the first answer has been timed
_TIMEOUT_MIN_MS = 10
_TIMEOUT_MAX_MS = 1000
_BACKOFF_MAX = 2


class LinkError(EvccError):
    """A message that the link does not carry, or not now: "full"."""

    REASONS = ("channel", "too-long", "full")


def weight(messages: "list[bytes]") -> int:
    """Bytes that waiting messages count for."""
    return sum([len(message) + EACH for message in messages])


class _Fragment:
    """One numbered frame in flight. `due`: to be sent, or sent again."""

    def __init__(self, number: int, head: int, payload: bytes) -> None:
        self.number = number
        self.head = head
        self.payload = payload
        self.stamp = 0
        self.sent_at = -1  # never
        self.due = True
        self.arrived = False


class Mux:
    """One end of a link.

    `epoch`: random, 1 to 2^32-1, new at each start. `limits`: message limit by channel, bytes.
    `queues`: limit of the waiting messages by channel, bytes.
    `generation`: number of peers so far; it changes when the peer has restarted.
    `resent`: number of repeated frames; `refused`: number of messages over the limit.
    """

    def __init__(
        self, epoch: int, limits: "dict[int, int]" = LIMITS, queues: "dict[int, int]" = QUEUES
    ) -> None:
        if not 0 < epoch < 1 << 32:
            raise ValueError("epoch")
        self._epoch = epoch
        self._limits = limits
        self.queues = queues
        self._reader = frame.FrameReader(_FRAME_LIMIT)
        self._messages = []  # complete, not yet returned to the caller
        self._peer = 0
        self._confirmed = False
        self._hello_at = None
        self.generation = 0
        self.resent = 0
        self.refused = 0
        self._meet(0)

    def send(self, channel: int, data: bytes) -> None:
        """Queue one message. Raises: LinkError("channel" | "too-long" | "full")."""
        if channel not in self._limits:
            raise LinkError("channel", str(channel))
        if len(data) > self._limits[channel]:
            raise LinkError("too-long", str(len(data)) + " bytes on channel " + str(channel))
        if len(data) > self.room(channel):
            raise LinkError("full", "the peer takes nothing on channel " + str(channel))
        self._queues[channel].append(bytes(data))

    def room(self, channel: int) -> int:
        """Bytes of the longest message that `channel` has room for; below 0: no room."""
        return self.queues[channel] - EACH - weight(self._queues[channel])

    def idle(self) -> bool:
        """Whether everything sent has arrived."""
        return not self._flight and not any(self._queues.values())

    def feed(self, data: bytes, now_ms: int) -> "list[tuple[int, bytes]]":
        """The messages completed by these bytes of the line: (channel, data), in order."""
        for raw in self._reader.feed(data):
            body = frame.unseal(raw, self._seal_in)
            if body is None or not self._peer:
                self._hello(frame.unseal(raw))
            elif len(body) == _ACK_BYTES and body[0] == _ACK:
                self._confirmed = True
                self._acknowledged(body[1:], now_ms)
            elif len(body) >= _DATA_BYTES and body[0] & _DATA:
                self._confirmed = True
                self._acknowledged(body[3:], now_ms)
                self._echo = body[2]
                self._ack_due = True
                self._arrived(body)
        messages, self._messages = self._messages, []
        return messages

    def poll(self, now_ms: int) -> bytes:
        """The bytes to write to the line now."""
        out = bytearray()
        if not self._confirmed and (self._hello_at is None or now_ms >= self._hello_at):
            self._hello_at = now_ms + _HELLO_MS
            self._hello_due = True
        if self._hello_due:
            self._hello_due = False
            hello = _HELLO + self._epoch.to_bytes(4, "big") + self._peer.to_bytes(4, "big")
            out.extend(b"\x00")  # ends a noise frame that the peer may be reading
            out.extend(frame.encode(hello))
        if not self._peer:
            return bytes(out)
        self._probe(now_ms)
        while len(self._flight) < _WINDOW:
            fragment = self._next_fragment()
            if fragment is None:
                break
            self._flight.append(fragment)
        for fragment in self._flight:
            if fragment.due:
                out.extend(self._transmit(fragment, now_ms))
        if self._ack_due:
            self._ack_due = False
            out.extend(frame.encode(bytes([_ACK]) + self._ack(), self._seal_out))
        return bytes(out)

    def wait_ms(self, now_ms: int) -> int:
        """Milliseconds until `poll` has something to send, if no bytes arrive before."""
        waits = [_TIMEOUT_MAX_MS]
        if self._ack_due or self._hello_due:
            return 0
        if not self._confirmed:
            waits.append((self._hello_at or now_ms) - now_ms)
        if self._peer:
            if any(f.due for f in self._flight):
                return 0
            if len(self._flight) < _WINDOW and any(self._queues.values()):
                return 0
            sent = [f.sent_at for f in self._flight if not f.arrived]
            if sent:
                waits.append(max(sent) + self._timeout * self._backoff - now_ms)
        return max(min(waits), 0)

    # -- the connection --

    def _meet(self, peer: int) -> None:
        """Reset the connection, to the peer of this epoch (0: none yet)."""
        if self._peer or not peer:
            self._queues = {channel: [] for channel in self._limits}
        self._peer = peer
        mine = self._epoch.to_bytes(4, "big")
        theirs = peer.to_bytes(4, "big")
        self._seal_out = binascii.crc32(mine + theirs)
        self._seal_in = binascii.crc32(theirs + mine)
        self._turn = 0  # the channel of the next fragment, or the first after it
        self._offset = {}  # by channel: bytes of its first message in fragments so far
        self._flight = []  # sent fragments from the first unacknowledged one on, in order
        self._number = 0
        self._stamp = 0
        self._timeout = _TIMEOUT_MS
        self._backoff = 1  # grows while there is no answer
        self._longest = _INITIAL
        self._clean = 0
        self._expected = 0
        self._early = {}  # by number: frames after a missing one
        self._parts = {}  # by channel: [bytes so far, buffer of the message]
        self._echo = 0
        self._ack_due = False
        self._hello_due = False

    def _hello(self, body: "bytes | None") -> None:
        if body is None or len(body) != len(_HELLO) + 8 or not body.startswith(_HELLO):
            return
        peer = int.from_bytes(body[-8:-4], "big")
        knows = int.from_bytes(body[-4:], "big") == self._epoch
        if not peer:
            return
        if peer != self._peer:
            self._meet(peer)
            self.generation += 1
            self._confirmed = False
        if knows:
            self._confirmed = True
            self._ack_due = True  # a sealed frame confirms its epoch
        else:
            self._hello_due = True

    # -- sending --

    def _next_fragment(self) -> "_Fragment | None":
        """The next fragment, round-robin over the channels."""
        channels = [channel for channel in self._queues if self._queues[channel]]
        if not channels:
            return None
        later = [channel for channel in channels if channel >= self._turn]
        channel = min(later or channels)
        self._turn = channel + 1
        message = self._queues[channel][0]
        start = self._offset.get(channel, 0)
        stop = min(start + self._longest, len(message))
        head = _DATA | channel
        payload = message[start:stop]
        if start == 0:
            head |= _FIRST
            payload = len(message).to_bytes(_TOTAL_BYTES, "big") + payload
        self._offset[channel] = stop
        if stop == len(message):
            head |= _LAST
            self._offset[channel] = 0
            self._queues[channel].pop(0)
        fragment = _Fragment(self._number, head, payload)
        self._number = (self._number + 1) & 0xFF
        return fragment

    def _transmit(self, fragment: _Fragment, now_ms: int) -> bytes:
        self._stamp = (self._stamp + 1) & 0xFF
        if fragment.sent_at >= 0:
            self.resent += 1
        fragment.stamp = self._stamp
        fragment.sent_at = now_ms
        fragment.due = False
        self._ack_due = False
        head = bytes([fragment.head, fragment.number, self._stamp])
        return frame.encode(head + self._ack() + fragment.payload, self._seal_out)

    def _probe(self, now_ms: int) -> None:
        """After a timeout, send the oldest fragment again; its echo reports on the others."""
        waiting = [f for f in self._flight if not f.arrived]
        if not waiting or any(f.due for f in waiting):
            return
        if now_ms - max(f.sent_at for f in waiting) >= self._timeout * self._backoff:
            self._backoff = min(self._backoff * 2, _BACKOFF_MAX)
            waiting[0].due = True
            self._shrink()

    def _shrink(self) -> None:
        self._longest = max(self._longest // 2, _SHORTEST)
        self._clean = 0

    def _acknowledged(self, answer: bytes, now_ms: int) -> None:
        upto, bitmap, echo = answer[0], answer[1] << 8 | answer[2], answer[3]
        flight = self._flight
        count = (upto - flight[0].number) & 0xFF if flight else 0
        if count > len(flight):
            return  # an old acknowledgement
        for i in range(len(flight)):
            fragment = flight[i]
            if not fragment.arrived:
                if fragment.stamp == echo and not fragment.due:
                    self._timed(now_ms - fragment.sent_at)
                behind = i - count - 1
                fragment.arrived = i < count or (behind >= 0 and bool(bitmap >> behind & 1))
                if fragment.arrived:
                    fragment.due = False
                    self._clean += 1
        self._flight = flight[count:]
        lost = False
        for fragment in self._flight:
            if not fragment.arrived and not fragment.due:
                fragment.due = 0 < ((echo - fragment.stamp) & 0xFF) < 128
                lost = lost or fragment.due
        if lost:
            self._shrink()
        elif self._clean >= _CLEAN_RUN:
            self._longest = min(self._longest * 2, _LONGEST)
            self._clean = 0

    def _timed(self, elapsed_ms: int) -> None:
        """Adapt the timeout to a measured answer: upwards at once, downwards slowly."""
        self._backoff = 1
        target = elapsed_ms * 3 // 2 + _TIMEOUT_MIN_MS
        self._timeout = min(max(target, (self._timeout * 7 + target) // 8), _TIMEOUT_MAX_MS)

    # -- receiving --

    def _ack(self) -> bytes:
        bitmap = 0
        for i in range(_WINDOW):
            if (self._expected + 1 + i) & 0xFF in self._early:
                bitmap |= 1 << i
        return bytes([self._expected, bitmap >> 8, bitmap & 0xFF, self._echo])

    def _arrived(self, body: bytes) -> None:
        number = body[1]
        if (number - self._expected) & 0xFF >= _WINDOW:
            return  # a repeated frame, whose acknowledgement was lost
        self._early[number] = body
        while self._expected in self._early:
            body = self._early.pop(self._expected)
            try:
                self._collect(body)
            except MemoryError:  # this message is lost, the line goes on
                self._parts.pop(body[0] & _CHANNEL, None)
                self.refused += 1
            self._expected = (self._expected + 1) & 0xFF

    def _collect(self, body: bytes) -> None:
        """Add one fragment, in its order, to its message."""
        head = body[0]
        channel = head & _CHANNEL
        start = _DATA_BYTES
        if head & _FIRST:
            start += _TOTAL_BYTES
            total = int.from_bytes(body[_DATA_BYTES:start], "big")
            self._parts.pop(channel, None)  # a message that never ended
            if total <= self._limits.get(channel, -1):
                self._parts[channel] = [0, bytearray(total)]
            else:
                self.refused += 1
        part = self._parts.get(channel)
        if part is None:
            return
        stop = part[0] + len(body) - start
        if stop > len(part[1]):
            del self._parts[channel]
            self.refused += 1
            return
        part[1][part[0] : stop] = body[start:]
        part[0] = stop
        if head & _LAST:
            del self._parts[channel]
            if stop == len(part[1]):
                self._messages.append((channel, bytes(part[1])))
