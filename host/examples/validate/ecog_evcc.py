"""EcoG's EVCC as a module (`lines:`). Its Python runs this; PKI_PATH is the folder of its keys."""

import asyncio
import base64
import json
import logging
import sys
from pathlib import Path
from unittest.mock import AsyncMock, Mock

from iso15118.evcc.states.iso15118_2_states import CertificateInstallation
from iso15118.shared.exi_codec import EXI
from iso15118.shared.exificient_exi_codec import ExificientEXICodec
from iso15118.shared.messages.enums import Namespace
from iso15118.shared.security import CertPath
from iso15118.shared.settings import load_shared_settings

logging.disable()  # it would be on standard output
load_shared_settings()
EXI().set_exi_codec(ExificientEXICodec())
car = Mock(ev_controller=AsyncMock())  # the session and the vehicle of EcoG's state
store = car.ev_controller.store_contract_cert_and_priv_key
for request in map(json.loads, sys.stdin):
    answer = {"v": 1, "module": "EcoG iso15118", "can": ["trust"]}  # to "hello"
    if request["op"] == "begin":
        car.session_id, answer = (request["session"] or "none").upper(), {}
        Path(CertPath.V2G_ROOT_DER).write_bytes(base64.b64decode(request["trust"][0]["der"]))
    if request["op"] == "install":
        store.reset_mock()
        try:
            exi = base64.b64decode(request["message"])
            message = EXI().from_exi(exi, Namespace.ISO_V2_MSG_DEF)
            asyncio.run(CertificateInstallation(car).process_message(message))
            reason = str(car.stop_reason)
        except Exception as error:  # each of them ends EcoG's session
            reason = repr(error)
        refused = {"verdict": "refused", "reason": reason}
        answer = {"verdict": "accepted"} if store.called else refused
    print(json.dumps(answer), flush=True)
