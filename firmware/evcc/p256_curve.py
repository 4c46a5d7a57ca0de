"""The curve P-256 (SEC 2, secp256r1) for checks of points: `p256` verifies with it.

A file of its own, because a car whose vault verifies needs no more of the curve.
"""

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def on_curve(point: bytes) -> bool:
    """True when `point` is 65 bytes, 0x04‖X‖Y, on the curve, coordinates reduced, not infinity."""
    return coordinates(point) is not None


def coordinates(point: bytes) -> "tuple | None":
    """(X, Y) as integers of a point of 65 bytes, 0x04‖X‖Y; None if it is not on the curve."""
    if len(point) != 65 or point[0] != 4:
        return None
    x = int.from_bytes(point[1:33], "big")
    y = int.from_bytes(point[33:], "big")
    if x >= P or y >= P or (y * y - (x * x - 3) * x - _B) % P:
        return None
    return x, y
