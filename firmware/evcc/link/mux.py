"""Channels over one noisy line: every message arrives whole, in order, exactly once.

Frames (`evcc.link.frame`) carry numbered fragments of messages. The receiver acknowledges what it
has (a cumulative number, and a bitmap of the sixteen after it) and echoes the stamp of the last
transmission it saw. A line does not reorder, so every frame sent before that one and not
acknowledged is lost, and is sent again at once. Each transmission has a stamp of its own, so the
echo of a repeated frame is timed correctly (Karn's rule), and the time-out follows RFC 6298.

Fragments get shorter while frames are lost, because a short frame is damaged less often, and
longer while frames arrive. A fragment keeps its length: when noise sets in, it may be too long to
arrive. Such a fragment, and the first missing one after a time-out, is sent in pieces, one after
the other. A piece carries the number of the fragment before it; an older peer takes it for a
repeated frame, echoes its stamp, and gets the whole fragment again.

Each end has an epoch, a random number of its start. A HELLO frame carries it; the CRC of all other
frames includes both epochs, so frames of a peer before its restart count as noise. When the peer
restarts, the messages queued for it are dropped. The queue for a peer that takes nothing is
bounded by channel: `send` refuses more, and the caller decides.

Sans-I/O: the caller moves the bytes and gives the time. Does not authenticate the peer.
"""

import binascii
from array import array

from evcc.errors import EvccError
from evcc.link import frame

const = int  # MicroPython's compiler replaces the name of a `const` by its number

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
_ACK = const(0x02)
_DATA = const(0x80)
_FIRST = const(0x40)
_LAST = const(0x20)
_PIECE = const(0x10)
_CHANNEL = const(0x0F)
_ACK_BYTES = const(5)
_DATA_BYTES = const(7)
_TOTAL_BYTES = const(3)  # of a message, in front of its first fragment
_PLACE_BYTES = const(2)  # of a piece in its fragment: bytes before it, bytes of the fragment

_BITMAP = const(16)
_WINDOW = const(32)  # frames in flight, for 5,000 bytes a second at one second to an echo
_NEAR_WINDOW = const(16)  # long frames on a near line: a board's UART buffers as many
_NEAR_MS = const(500)  # to an echo
_LONGEST = const(240)  # bytes of a message in one frame
_INITIAL = const(40)
_SHORTEST = const(15)  # with one byte in twenty damaged, one such frame in four arrives
_TOO_LONG = const(4)  # times the length of new fragments
_ALL = const(1 << 20)  # more bytes than a window has

_HELLO_MS = const(200)
_IDLE_MS = const(1000)
_TIMEOUT_MS = const(500)  # until the first answer has been timed
_TIMEOUT_MIN_MS = const(10)
_TIMEOUT_MAX_MS = const(10000)
_COPIES_MAX = const(4)


class LinkError(EvccError):
    """A message that the link does not carry."""

    REASONS = (
        "channel",  # not one of this link
        "too-long",  # for its channel: `LIMITS`
        "full",  # the channel's queue has no room now: `QUEUES`
    )


def weight(messages: "list[bytes]") -> int:
    """The bytes that waiting messages take of a queue: their lengths, and `EACH` for each one."""
    return sum([len(message) + EACH for message in messages])


class _Fragment:
    """One numbered frame in flight. `stamp`: of its last transmission, -1 before it. `due`: to be
    sent, or sent again."""

    def __init__(self, head: int, payload: bytes) -> None:
        self.head = head
        self.payload = payload
        self.stamp = -1
        self.due = True
        self.arrived = False


class Mux:
    """One end of a link.

    `epoch`: random, 1 to 2^32-1, new at each start. `limits`: message limit by channel, bytes.
    `queues`: limit of the waiting messages by channel, bytes.
    `generation`: number of peers so far; it changes when the peer has restarted.
    `resent`: number of repeated frames; `refused`: number of received messages that were over
    their limit, malformed, or without memory. Raises: ValueError for an epoch out of range.
    """

    def __init__(
        self, epoch: int, limits: "dict[int, int]" = LIMITS, queues: "dict[int, int]" = QUEUES
    ) -> None:
        if not 0 < epoch < 1 << 32:
            raise ValueError("epoch")
        self._epoch = epoch
        self._limits = limits
        self.queues = queues
        self._reader = frame.FrameReader(_DATA_BYTES + _TOTAL_BYTES + _LONGEST)
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
        """The messages completed by these bytes of the line: (channel, data), in order.

        now_ms: milliseconds of a clock that never goes back, here and below."""
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

    def poll(self, now_ms: int, most: int = _ALL) -> bytes:
        """The bytes to write to the line now. most: the number of bytes after which no other
        fragment follows."""
        out = bytearray(self._greeting(now_ms))
        if not self._peer:
            return bytes(out)
        if self._flight and now_ms >= self._timer_end():
            self._time_out()
        place = 0
        while len(out) < most and (place < len(self._flight) or self._take_fragment()):
            fragment = self._flight[place]
            if fragment.due:
                sealed = self._transmit(fragment.head, place, fragment.payload, now_ms)
                is_awaited = place == 0 and fragment.stamp >= 0  # all others wait for it
                out.extend(sealed * 2 if is_awaited else sealed)
                fragment.stamp = self._stamp
                fragment.due = False
            place += 1
        if self._piece_due:
            self._piece_due = False
            out.extend(self._next_piece(now_ms))
        if self._ack_due:
            self._ack_due = False
            out.extend(frame.encode(bytes([_ACK]) + self._ack(), self._seal_out))
        return bytes(out)

    def wait_ms(self, now_ms: int) -> int:
        """Milliseconds until `poll` has something to send, if no bytes arrive before."""
        waits = [_IDLE_MS]
        if self._ack_due or self._hello_due:
            return 0
        if not self._confirmed:
            waits.append((self._hello_at or now_ms) - now_ms)
        if self._peer:
            if self._piece_due or any(f.due for f in self._flight):
                return 0
            if len(self._flight) < self._window() and any(self._queues.values()):
                return 0
            if self._flight:
                waits.append(self._timer_end() - now_ms)
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
        self._base = 0  # the number of the first of them
        self._is_near = False
        self._longest = _INITIAL
        self._calm = 8
        self._stamp = 0
        self._timer = 0  # when something was last sent or has arrived
        self._sent_at = array("H", bytes(512))  # by stamp: milliseconds, modulo 65536
        self._heard = 0  # the latest echo
        self._mean = 0  # milliseconds to an echo, and their deviation
        self._deviation = _TIMEOUT_MS // 4
        self._silent = 0  # time-outs since something arrived
        self._piece_due = False
        self._piece_start = 0  # bytes of the first fragment that have arrived in pieces
        self._piece_stop = 0
        self._piece_stamp = -1  # of the piece that is under way
        self._expected = 0
        self._early = {}  # by number: frames after a missing one
        self._pieces = b""  # of the fragment that is expected
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

    def _greeting(self, now_ms: int) -> bytes:
        """The HELLO frame that is due, or b""."""
        if not self._confirmed and (self._hello_at is None or now_ms >= self._hello_at):
            self._hello_at = now_ms + _HELLO_MS
            self._hello_due = True
        if not self._hello_due:
            return b""
        self._hello_due = False
        hello = _HELLO + self._epoch.to_bytes(4, "big") + self._peer.to_bytes(4, "big")
        return b"\x00" + frame.encode(hello)  # the zero ends noise that the peer may be reading

    # -- sending --

    def _take_fragment(self) -> bool:
        """Put the next fragment into flight, round-robin over the channels; False: there is none,
        or the window is full."""
        channel, nearest = 0, _CHANNEL + 1
        for candidate in self._queues:
            distance = (candidate - self._turn) & _CHANNEL
            if self._queues[candidate] and distance < nearest:
                channel, nearest = candidate, distance
        if nearest > _CHANNEL or len(self._flight) >= self._window():
            return False
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
        self._flight.append(_Fragment(head, payload))
        return True

    def _transmit(self, head: int, place: int, payload: bytes, now_ms: int) -> bytes:
        """A frame for this place of the flight, with the next stamp."""
        self._stamp = (self._stamp + 1) & 0xFF
        self._sent_at[self._stamp] = now_ms & 0xFFFF
        self._timer = now_ms
        self._ack_due = False
        header = bytes([head, (self._base + place) & 0xFF, self._stamp])
        return frame.encode(header + self._ack() + payload, self._seal_out)

    def _next_piece(self, now_ms: int) -> bytes:
        """The frame of the next piece of the first fragment, more than once on a silent line."""
        self.resent += 1
        first = self._flight[0]
        whole, start = first.payload, self._piece_start
        self._piece_stop = min(start + self._longest, len(whole))
        payload = bytes([start, len(whole)]) + whole[start : self._piece_stop]
        sealed = self._transmit(first.head | _PIECE, -1, payload, now_ms)
        self._piece_stamp = self._stamp
        return sealed * min(self._silent + 1, _COPIES_MAX)

    def _window(self) -> int:
        return _NEAR_WINDOW if self._is_near and self._longest > _LONGEST // 2 else _WINDOW

    def _timer_end(self) -> int:
        timeout = self._mean + max(4 * self._deviation, _TIMEOUT_MIN_MS)
        return self._timer + min(timeout * min(1 + self._silent // 4, 4), _TIMEOUT_MAX_MS)

    def _time_out(self) -> None:
        """Have a piece sent, because no echo comes: its echo will report on all frames."""
        if self._silent:
            self._shrink()
        self._silent += 1
        self._piece_due = True
        for fragment in self._flight:  # else stamps would go round while the line is cut
            fragment.stamp = self._stamp

    def _acknowledged(self, answer: bytes, now_ms: int) -> None:
        upto, bitmap, echo = answer[0], answer[1] << 8 | answer[2], answer[3]
        count = (upto - self._base) & 0xFF
        if count > len(self._flight):
            return  # an old acknowledgement
        if echo != self._heard:
            self._heard = echo
            self._time((now_ms - self._sent_at[echo]) & 0xFFFF)
        for i in range(min(len(self._flight), count + 1 + _BITMAP)):
            fragment = self._flight[i]
            behind = i - count - 1  # the first missing one
            if fragment.arrived:
                continue
            if behind < -1 or (behind >= 0 and bitmap >> behind & 1):
                fragment.arrived = True
                fragment.due = False
                self._timer = now_ms
                self._silent = 0
                self._longest = min(self._longest + 1 + self._longest // self._calm, _LONGEST)
            elif not fragment.due and _is_later(echo, fragment.stamp):
                self._lost(fragment)
        self._flight = self._flight[count:]
        self._base = upto
        if count:
            self._piece_start = 0
            self._piece_stamp = -1
            self._piece_due = False
        if self._flight:
            self._consider_piece(echo)

    def _lost(self, fragment: _Fragment) -> None:
        """Send a fragment again, unless it is too long for the line's present noise."""
        if len(fragment.payload) <= self._longest * _TOO_LONG:
            fragment.due = True
            self.resent += 1
            self._calm = _LONGEST
            self._shrink()

    def _shrink(self) -> None:
        self._longest = max(self._longest * 7 // 8, _SHORTEST)

    def _consider_piece(self, echo: int) -> None:
        """Decide whether the first fragment, which is missing, goes on in pieces."""
        first = self._flight[0]
        if self._piece_stamp >= 0:
            if _is_later(self._piece_stamp, echo):
                return  # the piece is under way
            if echo == self._piece_stamp:
                self._piece_start = self._piece_stop
            self._piece_stamp = -1
            if self._piece_start == len(first.payload):  # an older peer takes no pieces
                self._piece_start = 0
                first.due = True
        self._piece_due = not first.due and _is_later(echo, first.stamp)

    def _time(self, elapsed_ms: int) -> None:
        """Adapt the time-out to the time until an echo, as RFC 6298 does."""
        error = elapsed_ms - self._mean
        self._mean += error // 8
        self._deviation += (abs(error) - self._deviation) // 4
        self._is_near = elapsed_ms < _NEAR_MS

    # -- receiving --

    def _ack(self) -> bytes:
        bitmap = 0
        for i in range(_BITMAP):
            if (self._expected + 1 + i) & 0xFF in self._early:
                bitmap |= 1 << i
        return bytes([self._expected, bitmap >> 8, bitmap & 0xFF, self._echo])

    def _arrived(self, body: bytes) -> None:
        number = body[1]
        if body[0] & _PIECE and (number + 1) & 0xFF == self._expected:
            number = self._expected
            body = self._joined(body)
            if not body:
                return
        if (number - self._expected) & 0xFF >= _WINDOW:
            return  # a repeated frame, whose acknowledgement was lost
        self._early[number] = body
        while self._expected in self._early:
            self._pieces = b""
            body = self._early.pop(self._expected)
            try:
                self._collect(body)
            except MemoryError:  # this message is lost, the line goes on
                self._parts.pop(body[0] & _CHANNEL, None)
                self.refused += 1
            self._expected = (self._expected + 1) & 0xFF

    def _joined(self, body: bytes) -> bytes:
        """The frame of the whole fragment, when this is its last missing piece; else b""."""
        piece = body[_DATA_BYTES + _PLACE_BYTES :]
        if not piece:
            return b""
        start, total = body[_DATA_BYTES], body[_DATA_BYTES + 1]
        if start <= len(self._pieces) < start + len(piece):
            self._pieces = self._pieces[:start] + piece
        return body[:_DATA_BYTES] + self._pieces if len(self._pieces) == total else b""

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


def _is_later(stamp: int, other: int) -> bool:
    """Whether the first of two stamps is of a later transmission."""
    return 0 < (stamp - other) & 0xFF < 128
