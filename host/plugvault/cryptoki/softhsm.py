"""SoftHSM's driver: its configuration, and the care for its token files."""

import os
from typing import Any

from evcc.vault import softhsm, softhsm_files
from plugvault.cryptoki.driver import Driver


class SoftHsmDriver(Driver):
    """conf: the file for SOFTHSM2_CONF."""

    def __init__(self, conf: str) -> None:
        self._conf = conf
        self._folder = softhsm.token_folder(conf)
        # SoftHSM writes the file of a copied object in far fewer steps than that of a created one.
        self.creates_by_copy = bool(self._folder)

    def load(self, path: str) -> Any:
        os.environ["SOFTHSM2_CONF"] = self._conf
        softhsm_files.repair(self._folder)
        return super().load(path)

    def back_up(self, label: str) -> None:
        softhsm_files.back_up(self._folder, label)

    def check_room(self) -> None:
        softhsm.check_room(self._folder)

    def flush(self, label: str) -> None:
        softhsm_files.flush(self._folder, label)

    def reload(self, label: str) -> None:
        softhsm_files.reload(self._folder, label)
