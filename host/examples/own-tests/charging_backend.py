"""An example of a company's own code: a signer, a client of the pools, some PKCS#11."""

import hashlib

import httpx
import pkcs11


def attest(vault, challenge: bytes) -> bytes:
    """A car proves that it has the provisioning key."""
    return vault.sign(b"provisioning", hashlib.sha256(challenge).digest())


class Pools:
    """A client of an OPCP backend."""

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20)
        credentials = {"client_id": client_id, "client_secret": client_secret, "audience": url}
        answer = self._http.post(
            "/oauth/token", json={**credentials, "grant_type": "client_credentials"}
        ).raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def contracts(self, pcid: str) -> list[str]:
        """EMAIDs of the contracts that wait for a vehicle."""
        answer = self._http.get(f"/v1/ccp/signedContractData/{pcid}").raise_for_status()
        return [contract["emaid"] for contract in answer.json()["XMLContracts"]]


def make_log_key(module: str, label: str, pin: str) -> int:
    """Make an AES key for our logs in the token. Its length in bits."""
    token = pkcs11.lib(module).get_token(token_label=label)
    with token.open(rw=True, user_pin=pin) as session:
        key = session.generate_key(pkcs11.KeyType.AES, 256, store=True, label="log")
        return key.key_length
