"""Make the certificate and ECDSA vectors in tests/vectors that tests on both runtimes read.

    python tools/make_vectors.py

Keys and nonces are random, so every run makes other files; the committed ones need no rerun. Only
public values are written. `cryptography` checks every valid vector before it is written.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID, ObjectIdentifier

TESTS = Path(__file__).parent.parent / "tests"
VECTORS = TESTS / "vectors"
sys.path[:0] = [str(TESTS), str(TESTS / "both")]
from softvault import B, G, N, P  # noqa: E402
from world import usage  # noqa: E402

BEGIN, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2045, 1, 1, tzinfo=UTC)


class Maker:
    """A certificate with its key, able to issue others."""

    def __init__(
        self, cn, dc, issuer=None, *, ca=None, key=None, curve=None, subject=None, **more
    ):
        self.key = key or ec.generate_private_key(curve or ec.SECP256R1())
        self.name = _name(cn, dc)
        signer = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(more.get("begin", BEGIN))
            .not_valid_after(more.get("end", END))
        )
        self.ski = more.get("ski") or os.urandom(8)
        aki = more.get("aki", signer.ski)
        builder = builder.add_extension(x509.SubjectKeyIdentifier(self.ski), critical=False)
        if aki:
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier(aki, None, None), critical=False
            )
        for extension, critical in more.get("extensions", _profile(ca)):
            builder = builder.add_extension(extension, critical=critical)
        self.certificate = builder.sign(signer.key, SHA256())
        self.der = self.certificate.public_bytes(Encoding.DER)


def _name(cn, dc):
    parts = [(NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Example"), (None, cn)]
    attributes = [x509.NameAttribute(oid or NameOID.COMMON_NAME, text) for oid, text in parts]
    if dc:
        attributes.append(x509.NameAttribute(NameOID.DOMAIN_COMPONENT, dc))
    return x509.Name(attributes)


CA_USAGE = (usage("key_cert_sign", "crl_sign"), True)
LEAF_USAGE = (usage("digital_signature", "key_agreement"), True)
NO_CA = (x509.BasicConstraints(ca=False, path_length=None), True)
UNKNOWN = (x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\5\0"), True)
# CA:FALSE written out, as the pools' CPS certificates have it.
EXPLICIT_NO_CA = (
    x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.19"), bytes.fromhex("3003010100")),
    True,
)
OCSP = (
    x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP,
                x509.UniformResourceIdentifier("http://ocsp.example:8080"),
            )
        ]
    ),
    False,
)


def _profile(ca):
    """Extensions of a CA with this path length (a number or "any"), or of a leaf (None)."""
    if ca is None:
        return [NO_CA, LEAF_USAGE, OCSP]
    length = None if ca == "any" else ca
    return [(x509.BasicConstraints(ca=True, path_length=length), True), CA_USAGE]


def certificates():
    """{name: certificate as DER in hex} for the tests."""
    root = Maker("V2G Root", "V2G", ca="any")
    sub1 = Maker("Sub1", "V2G", root, ca=1)
    sub2 = Maker("Sub2", "V2G", sub1, ca=0)
    contract = Maker("DEABC123456789Y", "MO", sub2)
    by_root = Maker("DEABC123456789Y", "MO", root)
    lenient = Maker("DEABC123456789Y", None, sub2, extensions=[])
    other_root = Maker("Other Root", "V2G", ca="any")
    impostor_root = Maker("V2G Root", "V2G", ca="any")
    short1 = Maker("Short Sub1", "V2G", root, ca=0)
    short2 = Maker("Sub2 under Short", "V2G", short1, ca=0)
    tight_root = Maker("Tight Root", "V2G", ca=0)
    under_tight = Maker("Sub under Tight", "V2G", tight_root, ca=0)
    plain1 = Maker("Plain Sub1", "V2G", root, ca="any")
    plain2 = Maker("Plain Sub2", "V2G", plain1, ca="any")
    plain3 = Maker("Plain Sub3", "V2G", plain2, ca="any")
    no_flag = Maker("Unflagged", "V2G", sub1, extensions=[NO_CA, CA_USAGE])
    no_usage = Maker("Unused", "V2G", sub1, extensions=[_profile(0)[0], LEAF_USAGE])
    critical_sub = Maker("Critical", "V2G", sub1, extensions=[*_profile(0), UNKNOWN])
    old_sub = Maker("Old Sub", "V2G", sub1, ca=0, end=datetime(2025, 6, 1, tzinfo=UTC))
    impostor2 = Maker("Sub2", "V2G", sub1, ca=0)
    twin_root = Maker(
        "V2G Root", "V2G", ca="any", key=root.key, ski=root.ski,
        end=datetime(2025, 6, 1, tzinfo=UTC),
    )  # fmt: skip
    emaid = "DEABC123456789Y"
    loop_a, loop_b = Maker("Loop A", "V2G", ca=0), Maker("Loop B", "V2G", ca=0)
    makers = {
        "root": root,
        "sub1": sub1,
        "sub2": sub2,
        "contract": contract,
        "contract_lenient": lenient,
        "contract_expired": Maker(emaid, "MO", sub2, end=datetime(2025, 6, 1, tzinfo=UTC)),
        "contract_future": Maker(emaid, "MO", sub2, begin=datetime(2040, 1, 1, tzinfo=UTC)),
        "contract_critical": Maker(emaid, "MO", sub2, extensions=[UNKNOWN]),
        "contract_ca": Maker(emaid, "MO", sub2, ca=0),
        "contract_no_sign": Maker(
            emaid, "MO", sub2, extensions=[(usage("key_encipherment"), True)]
        ),
        "contract_p384": Maker(emaid, "MO", sub2, curve=ec.SECP384R1()),
        "contract_no_emaid": Maker("Somebody", "MO", sub2),
        "contract_as_cps": Maker(emaid, "CPS", sub2),
        "contract_by_contract": Maker(emaid, "MO", contract),
        "contract_by_lenient": Maker(emaid, "MO", lenient),
        "contract_by_root": by_root,
        "contract_by_root_leaf": Maker(emaid, "MO", by_root),
        "contract_by_no_flag": Maker(emaid, "MO", no_flag),
        "contract_by_no_usage": Maker(emaid, "MO", no_usage),
        "contract_by_critical": Maker(emaid, "MO", critical_sub),
        "contract_by_old": Maker(emaid, "MO", old_sub),
        "contract_by_impostor": Maker(emaid, "MO", impostor2, aki=sub2.ski),
        "contract_by_impostor_keyed": Maker(emaid, "MO", impostor2),
        "contract_too_deep": Maker(emaid, "MO", short2),
        "contract_under_tight": Maker(emaid, "MO", under_tight),
        "contract_of_five": Maker(emaid, "MO", plain3),
        "contract_self": Maker(emaid, "MO"),
        "no_flag": no_flag,
        "no_usage": no_usage,
        "critical_sub": critical_sub,
        "old_sub": old_sub,
        "impostor_sub2": impostor2,
        "short1": short1,
        "short2": short2,
        "tight_root": tight_root,
        "under_tight": under_tight,
        "plain1": plain1,
        "plain2": plain2,
        "plain3": plain3,
        "loop_a": Maker("Loop A", "V2G", loop_b, ca=0, key=loop_a.key, ski=loop_a.ski),
        "loop_b": Maker("Loop B", "V2G", loop_a, ca=0, key=loop_b.key, ski=loop_b.ski),
        "contract_by_loop": Maker(emaid, "MO", loop_a),
        "cps": Maker("CPS 1", "CPS", sub2, extensions=[EXPLICIT_NO_CA, OCSP]),
        "cps_no_dc": Maker("CPS 1", None, sub2),
        "cpo": Maker("DEABCE0001", "CPO", sub2),
        "provisioning": Maker("WMIP1234567890123", "OEM", sub2),
        "provisioning_lenient": Maker("WMIP1234567890123", None, sub2, extensions=[]),
        "provisioning_no_agreement": Maker(
            "WMIP1234567890123", "OEM", sub2, extensions=[(usage("digital_signature"), True)]
        ),
        "other_root": other_root,
        "impostor_root": impostor_root,
        "expired_twin_root": twin_root,
        "forever_root": Maker(
            "Forever", "V2G", ca="any",
            begin=datetime(1970, 1, 1, 0, 1, tzinfo=UTC),
            end=datetime(9999, 12, 31, 23, 59, tzinfo=UTC),
        ),
        "not_ca_root": Maker("No CA", "V2G", extensions=[NO_CA]),
        "renamed_root": Maker("Renamed", "V2G", root, ca="any", key=root.key),
        "forged_root": Maker("Forged", "V2G", Maker("Forged", "V2G", ca="any"), ca="any"),
    }  # fmt: skip
    return {name: makers[name].der.hex() for name in makers}


# --- ECDSA ---


def _add(a, b):
    """The sum of two affine points, (x, y) or None for infinity."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    if a == b:
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def _multiply(k, point):
    total = None
    while k:
        if k & 1:
            total = _add(total, point)
        point = _add(point, point)
        k >>= 1
    return total


def _point(p):
    return b"\4" + p[0].to_bytes(32, "big") + p[1].to_bytes(32, "big")


def _pair(r, s):
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _signed(d, k, e):
    """Signature of digest value e with key d and nonce k."""
    r = _multiply(k, G)[0] % N
    return r, (e + r * d) * pow(k, -1, N) % N


def ecdsa():
    """[name, point, digest, signature, whether it verifies] of each case, as hex."""

    def random():
        return int.from_bytes(os.urandom(40), "big") % (N - 1) + 1

    cases = []

    def add(name, q, e, r, s, ok):
        digest = e.to_bytes(32, "big")
        cases.append([name, q.hex(), digest.hex(), _pair(r, s).hex(), ok])

    for _ in range(8):
        key = ec.generate_private_key(ec.SECP256R1())
        q = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        digest = os.urandom(32)
        signature = key.sign(digest, ec.ECDSA(utils.Prehashed(SHA256())))
        r, s = utils.decode_dss_signature(signature)
        e = int.from_bytes(digest, "big")
        add("random", q, e, r, s, True)
        add("other s of the same r", q, e, r, N - s, True)
        add("digest one off", q, e ^ 1, r, s, False)
    d, e = random(), random()
    q = _point(_multiply(d, G))
    r, s = _signed(d, random(), e)
    add("base for the malformed", q, e, r, s, True)
    add("r zero", q, e, 0, s, False)
    add("s zero", q, e, r, 0, False)
    add("both zero", q, e, 0, 0, False)
    add("r is n", q, e, N, s, False)
    add("s is n", q, e, r, N, False)
    add("s is n + 1, r is 1", q, e, 1, N + 1, False)
    add("r and s all ones", q, e, 2**256 - 1, 2**256 - 1, False)
    add("r is p", q, e, P, s, False)
    add("negated point", _point((_multiply(d, G)[0], P - _multiply(d, G)[1])), e, r, s, False)
    add("y off the curve", q[:64] + bytes([q[64] ^ 1]), e, r, s, False)
    add("digest zero", q, 0, *_signed(d, random(), 0), True)
    add("digest n", q, N, *_signed(d, random(), N), True)
    add("digest all ones", q, 2**256 - 1, *_signed(d, random(), 2**256 - 1), True)
    r, s = random(), random()
    add("sum is infinity", q, -r * d % N, r, s, False)
    k = random()
    r = _multiply(k, G)[0] % N
    add("both products equal", q, r * d % N, r, 2 * r * d * pow(k, -1, N) % N, True)
    for name, d in (("g", 1), ("-g", N - 1), ("2g", 2), ("3g", 3), ("31g", 31), ("-5g", N - 5)):
        for k in (1, 2, 3, 32, random()):
            q = _point(_multiply(d, G))
            r, s = _signed(d, k, e)
            add("key is " + name, q, e, r, s, True)
            add("key is " + name + ", wrong", q, (e + 1) % N, r, s, False)

    # u1*G + u2*Q with scalars chosen so that additions meet the same point, or its negative.
    def add_with_scalars(name, u1, u2, d, ok=True):
        total = _multiply((u1 + u2 * d) % N, G)
        r = total[0] % N if total else random()
        s = r * pow(u2, -1, N) % N
        add(name, _point(_multiply(d, G)), u1 * s % N, r, s, ok)

    add_with_scalars("u1*G = u2*Q at once", 1, 1, 1)
    add_with_scalars("u1*G = -u2*Q at once", 1, 1, N - 1, ok=False)
    add_with_scalars("infinity on the way", 2**100 + 1, 2**100, N - 1)
    add_with_scalars("infinity on the way, Q goes on", 2**200, 2**200 + 2, N - 1)
    # A coordinate of R between n and p, where r is the coordinate minus n.
    x = N
    while True:
        yy = (x**3 - 3 * x + B) % P
        y = pow(yy, (P + 1) // 4, P)
        if y * y % P == yy and x > N:
            break
        x += 1
    u1, u2 = random(), random()
    q = _multiply(pow(u2, -1, N), _add((x, y), _multiply(N - u1, G)))
    s = (x - N) * pow(u2, -1, N) % N
    add("r + n is the coordinate", _point(q), u1 * s % N, x - N, s, True)
    add("r + n is one beside the coordinate", _point(q), u1 * s % N, x - N + 1, s, False)
    for case in cases:
        _judge(*case)
    return cases


def _judge(name, q, digest, signature, ok):
    """Check that OpenSSL comes to the same result as the vector. ok: the expected result."""
    r, s = int(signature[:64], 16), int(signature[64:], 16)
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(q))
        key.verify(
            utils.encode_dss_signature(r, s),
            bytes.fromhex(digest),
            ec.ECDSA(utils.Prehashed(SHA256())),
        )
        accepted = True
    except Exception:  # noqa: BLE001 - of many kinds, all of them a no
        accepted = False
    if accepted != ok:
        raise SystemExit(f"OpenSSL disagrees: {name}")


def main():
    write("certificates", json.dumps(certificates(), indent=0))
    # A case a line: a board reads one after the other.
    write("p256", "[\n" + ",\n".join(map(json.dumps, ecdsa())) + "\n]")


def write(name, text):
    path = VECTORS / f"{name}.json"
    path.write_text(text + "\n")
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
