"""evcc.ids: EMAID and PCID. The check digit vectors are those that mobilityid publishes."""

from evcc import ids
from evcc.check_digit import emaid_check_digit
from helpers import raises

CHECK_DIGITS = (
    ("NN123ABCDEFGHI", "T"),
    ("FRXYZ123456789", "2"),
    ("ITA1B2C3E4F5G6", "4"),
    ("ESZU8WOX834H1D", "R"),
    ("PT73902837ABCZ", "Z"),
    ("DE83DUIEN83QGZ", "D"),
    ("DE83DUIEN83ZGQ", "M"),
    ("DE8AA001234567", "0"),
    ("NL-TNM-000122045", "U"),
    ("NL-TNM-C00122045", "K"),
    ("GB-OCT-C1234ABCD", "J"),
)


def test_check_digit_matches_published_vectors():
    for emaid, digit in CHECK_DIGITS:
        assert emaid_check_digit(emaid) == digit, emaid


def test_check_digit_ignores_the_one_that_is_there():
    assert emaid_check_digit("GBOCTC1234ABCDZ") == "J"


def test_emaid_spellings_are_one():
    for text in (
        "GB-OCT-C1234ABCD-J",
        "gb-oct-c1234abcdj",
        "GBOCT-C1234ABCD-J",
        "gbOCTc1234ABCDj",
    ):
        assert ids.parse_emaid(text) == "GBOCTC1234ABCDJ"


def test_emaid_without_check_digit_is_kept_at_14():
    assert ids.parse_emaid("EMP99CQAPAB004") == "EMP99CQAPAB004"


def test_malformed_emaid_is_refused():
    for reason, text in (
        ("length", ""),
        ("length", "DEABC12345678"),
        ("length", "DEABC1234567890A"),
        ("length", "D" * 1000),
        ("character", "D1ABC123456789X"),
        ("character", "1EABC123456789X"),
        ("character", "DEABC12345678_X"),
        ("character", "DEABC 12345678X"),
        ("character", "DEABC12345678\u0131X"),
        ("character", "\u017fEABC123456789X"),
        ("hyphen", "-DEABC123456789"),
        ("hyphen", "DE--ABC123456789"),
        ("hyphen", "DEA-BC123456789"),
        ("hyphen", "DE-ABC-123456789-"),
    ):
        raises(ids.IdError, reason, ids.parse_emaid, text)


def test_pcid_keeps_its_case():
    for text in ("WMIP1234567890123", "huboemprovcqa0615", "hubjectopenpnc0001"):
        assert ids.parse_pcid(text) == text


def test_malformed_pcid_is_refused():
    for reason, text in (
        ("length", "WMIP123456789012"),
        ("length", "WMIP123456789012345"),
        ("character", "WMI-1234567890123"),
        ("character", "WMIP123456789012\u0131"),
        ("character", "WMIP123456789012\xdf"),
    ):
        raises(ids.IdError, reason, ids.parse_pcid, text)
