"""SoftHSM's driver: its configuration, and the repair of its files before it starts."""

import os
from typing import Any

from evcc.vault.backend import token_files
from evcc.vault.softhsm import trouble
from plugvault.cryptoki.driver import Driver


class SoftHsmDriver(Driver):
    """The driver of SoftHSM. conf: the file for SOFTHSM2_CONF."""

    def __init__(self, conf: str) -> None:
        super().__init__(token_files(conf, ""))
        self._conf = conf

    def load(self, path: str) -> Any:
        os.environ["SOFTHSM2_CONF"] = self._conf
        self.files.repair()
        return super().load(path)

    def trouble(self, path: str) -> str:
        return trouble(self._conf)
