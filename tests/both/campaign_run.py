"""Our module as the module under test of a campaign, on one interpreter: see `plugvault.campaign`.

    INTERPRETER campaign_run.py PIN_FILE STORE pkcs11 MODULE LABEL OPTIONS
    INTERPRETER campaign_run.py PIN_FILE STORE service SOCKET

It speaks JSON lines on standard input and output.
"""

import binascii
import json
import sys

from evcc.contracts import Contracts
from evcc.iso15118_2.installation import InstallationRequest, RejectedError, install
from evcc.ports.files import Files
from evcc.trust import Trust
from evcc.vault import PROVISIONING

STAGES = {
    "message": "decode",
    "unsolicited": "session",
    "not-admitted": "admitted",
    "dh-point": "key-transport",
    "wrapped-length": "key-transport",
    "envelope": "key-transport",
    "vault": "key",
}
CAN = ["reset", "clock", "trust", "sign", "state"]


class Module:
    """The module; each public method is an operation of the vocabulary, request -> answer."""

    def __init__(self, vault, store):
        self.vault, self.store = vault, store
        self.number = 0
        self._forget()

    def _forget(self):
        for key, _ in list(self.vault.keys()):
            if key != PROVISIONING:
                self.vault.delete(key)
        self.number += 1
        files = Files("%s-%d" % (self.store, self.number))
        self.trust = Trust(files, self.vault.verify)
        self.contracts = Contracts(files)
        self.anchors = None

    def hello(self, request):
        name = sys.implementation.name
        return {"v": 1, "module": "evcc", "version": name, "can": CAN, "editions": ["2"]}

    def begin(self, request):
        if request["reset"]:
            self._forget()
        if request["trust"] != self.anchors:
            self.anchors = request["trust"]
            anchors = [(a["kind"], binascii.a2b_base64(a["der"])) for a in self.anchors]
            self.trust.install("EU", anchors, request["at"])
        self.now = request["at"]
        self.request = None
        if request["session"] is not None:
            session = bytes.fromhex(request["session"])
            self.request = InstallationRequest(session, request["emaid"])
        return {}

    def install(self, request):
        message = binascii.a2b_base64(request["message"])
        stores = (self.trust, self.contracts, self.vault, self.now)
        try:
            contract = install(message, self.request, *stores)
        except RejectedError as e:
            stage = STAGES.get(e.reason, e.reason)
            return {"verdict": "refused", "stage": stage, "reason": str(e)}
        return {"verdict": "accepted", "emaid": contract.emaid}

    def sign(self, request):
        contract = self.contracts.get(request["emaid"].upper())
        digest = bytes.fromhex(request["digest"])
        return {"signature": self.vault.sign(contract.key, digest).hex()}

    def state(self, request):
        contracts = [(c.emaid, c.key.hex(), c.active) for c in self.contracts.all()]
        keys = self.vault.keys()
        return {"contracts": contracts, "hash": sorted(key.hex() for key, _ in keys)}

    def answer(self, request):
        return getattr(self, request["op"])(request)


def open_vault(pin_file, kind, *where):
    if kind == "pkcs11":
        from evcc.vault import pin, pkcs11

        module, label, options = where
        return pkcs11.open(module, label, pin.of_file(pin_file), options)
    from evcc.ports import unix
    from evcc.vault import service

    return service.connect(lambda: unix.connect(*where))


def main(pin_file, store, *vault):
    module = Module(open_vault(pin_file, *vault), store)
    while True:
        line = sys.stdin.readline()
        if not line:
            break
        print(json.dumps(module.answer(json.loads(line))))
        if hasattr(sys.stdout, "flush"):
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
