"""The location of a token: its library, its name there, and how the library is initialised."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from evcc.vault.pkcs11 import TokenVault
from plugvault.cryptoki.backend import open_vault


@dataclass(frozen=True)
class TokenLocation:
    """The location of a token. label: its label, or a URI that names it [`evcc.vault.uri.Name`];
    conf: the file for SOFTHSM2_CONF, of SoftHSM only; options: the text for C_Initialize, "" for
    none."""

    module: Path
    label: str
    conf: Path | None = None
    options: str = ""

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The location that another process sent as JSON, by `dataclasses.asdict`."""
        conf = fields["conf"]
        return cls(
            Path(fields["module"]),
            fields["label"],
            Path(conf) if conf else None,
            fields["options"],
        )

    def absolute(self) -> Self:
        """The same location for a process with another working directory. A library named without
        a folder stays as it is: the system's loader searches for it."""
        has_folder = self.module.parent != Path()
        return replace(
            self,
            module=self.module.absolute() if has_folder else self.module,
            conf=self.conf.absolute() if self.conf else None,
        )

    def env(self) -> dict[str, str]:
        """The environment variables of a process that opens this token."""
        return {"SOFTHSM2_CONF": str(self.conf)} if self.conf else {}

    def open(
        self, pin: str | bytearray, minimum_custody: str = "", provisioning: str = ""
    ) -> TokenVault:
        """The token's vault, in this process. The caller wipes a bytearray. Raises as
        `open_vault`."""
        return open_vault(
            self.module, self.conf, self.label, pin, self.options, minimum_custody, provisioning
        )
