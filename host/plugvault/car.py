"""A car on this computer: the EV module in a process of its own, and its test bench.

    with Car(runtime, "serial", folder, maker=key.point, token=token) as car:
        maker = car.maker(key)
        maker.connect()
        car.charge("127.0.0.1", station.port, want_contract=True)

The module is the same as on a board, started as `main.py` under the chosen interpreter. Its link
is a null-modem cable of two pseudo-terminals, or a TCP connection on the loopback. Its vault is
the token itself if the interpreter has `ffi`, else a vault service started here. Needs Linux.
"""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from evcc.errors import EvccError
from evcc.ports.stream import PortError, Stream
from plugvault.contexts import Startable
from plugvault.link.bench import Bench
from plugvault.link.endpoint import of_connection, open_serial
from plugvault.link.nullmodem import Noise, NullModem
from plugvault.runtimes import Runtime, program
from plugvault.temporary import temporary_folder
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration
from plugvault.vault_service.service import VaultService

_START_TIMEOUT = 20.0  # seconds until the module must have answered
_END_TIMEOUT = 5.0
_NAME = "car"  # the module's name at a vault service that it reaches over the link


class CarError(EvccError):
    """The module's process did not start, or ended without a request; `detail` has its stderr."""

    REASONS = ("start", "died")


class Car(Startable):
    """The module and its bench, while the context lasts. The bench's methods are also the car's.

    runtime: the interpreter. link: "serial" or "tcp". folder: for the car's configuration and
    contracts; a later car with the same folder is the same car. maker: the 65-byte point of the
    maker's telematics key. token: the module does not start with a token below its
    `minimum_custody`. vault: "token" (needs ffi), "service", "link" (the service, reached over the
    link as a board does); None: the first possible one. noise: of the cable, see `NullModem`.
    heap: of a MicroPython, e.g. "256k". code: the folder to run instead of the firmware's, such as
    .mpy beside `main.py` and `boot.py`. network: "network" of the module's configuration, with
    which it finds a station by itself. observe: see `Bench`.

    Raises on entry: CarError, VaultError, BenchError.
    """

    def __init__(
        self,
        runtime: Runtime,
        link: str,
        folder: Path,
        *,
        maker: bytes,
        token: TokenConfiguration,
        vault: str | None = None,
        noise: Noise | None = None,
        heap: str | None = None,
        code: Path | None = None,
        network: Mapping[str, object] | None = None,
        observe: Callable[[str, str], None] = lambda channel, text: None,
    ) -> None:
        if link not in ("serial", "tcp"):
            raise ValueError(f"link {link!r}")
        self.runtime = runtime
        self.link = link
        self.folder = folder.absolute()  # the working directory of the module's process
        self.vault = vault or ("token" if runtime.has_ffi else "service")
        self._maker = maker
        self._token = token
        self._noise = noise
        self._heap = heap
        self._code = (code or program()).absolute()
        self._network = network
        self._observe = observe
        self._vault_socket: Path | None = None  # of the service that the bench connects

    def _start(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        vault = self._start_vault(self._stack)
        link, connect = self._lay_cable(self._stack)
        self._configure(link, vault)
        self._process = self._start_module()
        self._stack.callback(self._end)
        bench = Bench(connect(), self._observe, self._vault_socket, self._explain)
        self.bench = self._stack.enter_context(bench)
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()
        self.bench.status(_START_TIMEOUT)
        # The bench's methods are the car's.
        self.status, self.request = self.bench.status, self.bench.request
        self.maker, self.charge = self.bench.maker, self.bench.charge
        self.charge_by, self.find_and_charge = self.bench.charge_by, self.bench.find_and_charge
        self.bridge_session, self.traffic = self.bench.bridge_session, self.bench.traffic

    @property
    def pid(self) -> int:
        """The module's process ID."""
        return self._process.pid

    @property
    def stderr(self) -> str:
        """The output of the module's interpreter to stderr; empty without errors."""
        path = self.folder / "stderr.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def _location(self) -> TokenLocation:
        """The token's location, for the module's process, which runs in the car's folder."""
        return self._token.location.absolute()

    def _start_vault(self, stack: contextlib.ExitStack) -> dict[str, str]:
        """Start the vault service if one is needed. Returns "vault" of the configuration."""
        token, location = self._token, self._location
        if self.vault == "token":
            pin_file = self.folder / "pin"
            stack.callback(pin_file.unlink, missing_ok=True)  # after a failed start too
            _write_private(pin_file, token.pin)
            return {
                "kind": "pkcs11",
                "module": str(location.module),
                "token": location.label,
                "pin_file": str(pin_file),
                "options": location.options,
                "minimum_custody": token.minimum_custody,
                "provisioning": token.provisioning,
            }
        # The path of a socket must be short; the car's folder may be long.
        short = stack.enter_context(temporary_folder())
        key_file, key = self.folder / "vault-key", secrets.token_bytes(32)
        service = VaultService(token, short / "vault", keys={_NAME: key})
        stack.enter_context(service)
        if self.vault == "link":
            self._vault_socket = service.socket_path
            stack.callback(key_file.unlink, missing_ok=True)
            _write_private(key_file, key.hex())
            return {"kind": "link", "name": _NAME, "key_file": str(key_file)}
        return {"kind": "service", "socket": str(service.socket_path)}

    def _lay_cable(
        self, stack: contextlib.ExitStack
    ) -> tuple[dict[str, object], Callable[[], Stream]]:
        """The "link" of the configuration, and a function that opens this end of it."""
        if self.link == "serial":
            cable = stack.enter_context(NullModem(self._noise))
            return {"kind": "tty", "path": str(cable.b)}, lambda: open_serial(cable.a)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        host, port = listener.getsockname()
        return {"kind": "tcp", "host": host, "port": port}, lambda: self._accept(listener)

    def _accept(self, listener: socket.socket) -> Stream:
        listener.settimeout(0.1)
        for _ in range(int(_START_TIMEOUT / 0.1)):
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                listener.close()
                return of_connection(connection)
            if self._process.poll() is not None:
                raise self._died(self._process)
        raise CarError("start", "the module does not connect")

    def _configure(self, link: dict[str, object], vault: dict[str, str]) -> None:
        config: dict[str, object] = {
            "link": link,
            "vault": vault,
            "store": str(self.folder / "store"),
            "maker": self._maker.hex(),
        }
        if self._network is not None:
            config["network"] = dict(self._network)
        _write_private(self.folder / "config.json", json.dumps(config, indent=1))

    def _start_module(self) -> subprocess.Popen[bytes]:
        runtime = self.runtime
        heap = runtime.heap(self._heap) if self._heap else ()
        with (self.folder / "stderr.txt").open("wb") as stderr, _car_error("start"):
            return subprocess.Popen(
                [*runtime.argv, *heap, str(self._code / "main.py"), "config.json"],
                cwd=self.folder,
                env={**runtime.env(self._code), **self._location.env()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                umask=0o077,
                process_group=0,  # a Ctrl-C in the terminal reaches this process only
            )

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self.bench.fail(self._died(process))

    def _explain(self, error: PortError) -> EvccError:
        """The reason of a lost line: mostly the end of the process, with its stderr."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
            return self._died(self._process)
        return error

    def _died(self, process: subprocess.Popen[bytes]) -> CarError:
        output = self.stderr.strip()[-2000:]
        return CarError("died", f"exit code {process.returncode}: {output or 'no output'}")

    def _end(self) -> None:
        process = self._process
        process.terminate()
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _car_error(reason: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CarError(reason, str(error)) from error


def _write_private(path: Path, text: str) -> None:
    """A file that only its owner can read, from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
