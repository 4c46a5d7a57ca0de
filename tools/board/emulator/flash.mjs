// The SSI controller of the RP2040 with a serial NOR flash behind it, the Pico's W25Q16JV: 2 MiB,
// sectors of 4 KiB, pages of 256 bytes. An erase or program can lose the power at a chosen operation.
import { BasePeripheral } from 'rp2040js';
import fs from 'node:fs';

export const FLASH_BYTES = 2 * 1024 * 1024;
const SECTOR = 4096;
const BLOCK = 65536;
const PAGE = 256;

// Typical times of the flash's data sheet, in nanoseconds.
const SECTOR_ERASE_NS = 45e6;
const BLOCK_ERASE_NS = 150e6;
const PAGE_PROGRAM_NS = 0.4e6;

// SSI registers.
const SSIENR = 0x08;
const TXFLR = 0x20;
const RXFLR = 0x24;
const SR = 0x28;
const IDR = 0x58;
const VERSION = 0x5c;
const DR0 = 0x60;
const SR_TX_EMPTY = 0x06; // transmit FIFO empty and not full
const SR_RX_NOT_EMPTY = 0x08;

// Commands of the flash.
const WRITE_ENABLE = 0x06;
const WRITE_DISABLE = 0x04;
const READ_STATUS_1 = 0x05;
const READ_STATUS_2 = 0x35;
const READ = 0x03;
const PAGE_PROGRAM = 0x02;
const SECTOR_ERASE = 0x20;
const BLOCK_ERASE = 0xd8;
const JEDEC_ID = 0x9f;
const UNIQUE_ID = 0x4b;

const STATUS_1_WRITE_ENABLED = 0x02;
const STATUS_2_QUAD_ENABLED = 0x02;
const JEDEC = [0xef, 0x40, 0x15];
const UNIQUE = [0, 0, 0, 0, 0xe6, 0x61, 0x41, 0x04, 0x03, 0x2b, 0x5a, 0x2a];

/** The contents of the flash, kept in a file: each operation reaches the file before it ends. */
export class FlashFile {
  constructor(path) {
    this.bytes = new Uint8Array(FLASH_BYTES).fill(0xff);
    const known = fs.readFileSync(path);
    this.bytes.set(known.subarray(0, FLASH_BYTES));
    this.file = fs.openSync(path, 'r+');
    if (known.length < FLASH_BYTES) fs.writeSync(this.file, this.bytes, 0, FLASH_BYTES, 0);
    this.cutAfter = 0; // operations until the power fails; 0: it does not
    this.cutPart = 0;
    this.lost = false; // the power, until it comes back
    this.counters = { operations: 0, erases: 0, programs: 0 };
  }

  /** Lose the power at the `operation`-th erase or program from now, 1 the next, with the part
   * (0 to 1) of it done. 0: do not. */
  cutAt(operation, part) {
    this.cutAfter = operation;
    this.cutPart = part;
  }

  /** Begin again after a power cut. */
  powerOn() {
    this.cutAt(0, 0);
    this.lost = false;
  }

  /** Erase or program; `bytes` are what the chip holds. Returns whether the power is still there. */
  change(bytes, address, length, change) {
    if (this.lost) return false;
    this.counters.operations++;
    const cut = this.cutAfter > 0 && --this.cutAfter === 0;
    const done = cut ? Math.floor(length * this.cutPart) : length;
    for (let i = 0; i < done; i++) change(bytes, i);
    fs.writeSync(this.file, bytes, address, length, address);
    this.lost = cut;
    return !cut;
  }
}

/** SSI and flash. `events`: {powerLost(), waited(nanoseconds)}: the power failed at an operation; the
 * core stood still for one. */
export class Flash extends BasePeripheral {
  constructor(chip, file, events) {
    super(chip, 'SSI');
    this.file = file;
    this.events = events;
    this.registers = new Map();
    this.received = [];
    this.command = []; // bytes since the chip was selected
    this.selected = 'automatic'; // or 'low', 'high': the chip select line
    this.writeEnabled = false;
  }

  readUint32(offset) {
    if (offset === TXFLR) return 0;
    if (offset === RXFLR) return this.received.length;
    if (offset === SR) return SR_TX_EMPTY | (this.received.length ? SR_RX_NOT_EMPTY : 0);
    if (offset === IDR) return 0x51535049;
    if (offset === VERSION) return 0x3430312a;
    if (offset === DR0) return this.received.shift() ?? 0;
    return this.registers.get(offset) ?? 0;
  }

  writeUint32(offset, value) {
    if (offset !== DR0) {
      if (offset === SSIENR && this.selected === 'automatic') this.begin();
      this.registers.set(offset, value);
    } else if (this.selected === 'high') {
      this.received.push(0xff);
    } else {
      // Without a line of its own the chip is selected for as long as a transfer lasts.
      if (this.selected === 'automatic' && !this.received.length) this.command = [];
      this.received.push(this.transfer(value & 0xff));
    }
  }

  /** The chip select line, which the boot ROM drives through the pad of the QSPI bank. */
  select(level) {
    if (level === 'low' && this.selected !== 'low') this.begin();
    if (level !== 'low' && this.selected === 'low') this.end();
    this.selected = level;
  }

  begin() {
    this.command = [];
    this.received = [];
  }

  /** One byte in, one byte out. */
  transfer(byte) {
    this.command.push(byte);
    const position = this.command.length - 1;
    if (position === 0) {
      if (byte === WRITE_ENABLE) this.writeEnabled = true;
      if (byte === WRITE_DISABLE) this.writeEnabled = false;
      return 0xff;
    }
    switch (this.command[0]) {
      case READ_STATUS_1:
        return this.writeEnabled ? STATUS_1_WRITE_ENABLED : 0; // never busy: see `wait`
      case READ_STATUS_2:
        return STATUS_2_QUAD_ENABLED;
      case JEDEC_ID:
        return JEDEC[position - 1] ?? 0;
      case UNIQUE_ID:
        return UNIQUE[position - 1] ?? 0;
      case READ:
        return position < 4 ? 0xff : this.rp2040.flash[(this.address() + position - 4) % FLASH_BYTES];
    }
    return 0xff;
  }

  address() {
    return ((this.command[1] << 16) | (this.command[2] << 8) | this.command[3]) % FLASH_BYTES;
  }

  /** The chip is released: an erase or a program begins now. */
  end() {
    if (!this.writeEnabled || this.command.length < 4) return;
    const command = this.command[0];
    if (command === SECTOR_ERASE) this.erase(SECTOR, SECTOR_ERASE_NS);
    else if (command === BLOCK_ERASE) this.erase(BLOCK, BLOCK_ERASE_NS);
    else if (command === PAGE_PROGRAM) this.program(this.command.slice(4));
  }

  erase(length, nanoseconds) {
    const start = this.address() & ~(length - 1);
    this.file.counters.erases++;
    this.change(start, length, nanoseconds, (bytes, i) => (bytes[start + i] = 0xff));
  }

  program(data) {
    const page = this.address() & ~(PAGE - 1);
    const first = this.address() - page;
    const values = new Uint8Array(PAGE).fill(0xff);
    data.forEach((value, i) => (values[(first + i) % PAGE] = value)); // a page wraps around
    this.file.counters.programs++;
    this.change(page, PAGE, PAGE_PROGRAM_NS, (bytes, i) => (bytes[page + i] &= values[i]));
  }

  change(start, length, nanoseconds, change) {
    this.writeEnabled = false;
    const powered = this.file.change(this.rp2040.flash, start, length, change);
    // The flash cannot be read meanwhile, so the core waits in a loop in RAM with interrupts off.
    // Everything else goes on: bytes arrive at the UART.
    this.rp2040.clock.tick(nanoseconds);
    this.events.waited(nanoseconds);
    if (!powered) this.events.powerLost();
  }
}

// Chip select override in the control register of the pad QSPI_SS.
const GPIO_QSPI_SS_CTRL = 0x0c;
const OUTOVER_LOW = 2;
const OUTOVER_HIGH = 3;

/** The pads of the QSPI bank: keeps values, and tells the flash the level of its select line. */
export class QspiPads extends BasePeripheral {
  constructor(chip, flash) {
    super(chip, 'IO_QSPI');
    this.flash = flash;
    this.registers = new Map();
  }

  readUint32(offset) {
    return this.registers.get(offset) ?? 0;
  }

  writeUint32(offset, value) {
    this.registers.set(offset, value);
    if (offset !== GPIO_QSPI_SS_CTRL) return;
    const override = (value >>> 8) & 3;
    const levels = { [OUTOVER_LOW]: 'low', [OUTOVER_HIGH]: 'high' };
    this.flash.select(levels[override] ?? 'automatic');
  }
}
