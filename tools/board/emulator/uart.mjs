// A PL011 UART as the RP2040 has it: FIFOs of 32 bytes, interrupts by level and by time-out, and a
// line that takes ten bit times for each byte. rp2040js has one too, but never lowers its transmit
// interrupt, in which MicroPython then stays for ever.
import { BasePeripheral } from 'rp2040js';

// Registers.
const DR = 0x00;
const FR = 0x18;
const IBRD = 0x24;
const FBRD = 0x28;
const LCR_H = 0x2c;
const CR = 0x30;
const IFLS = 0x34;
const IMSC = 0x38;
const RIS = 0x3c;
const MIS = 0x40;
const ICR = 0x44;
const IDENTITY = { 0xfe0: 0x11, 0xfe4: 0x10, 0xfe8: 0x34, 0xff0: 0x0d, 0xff4: 0xf0, 0xff8: 0x05, 0xffc: 0xb1 };

// Bits.
const FR_BUSY = 0x08;
const FR_RX_EMPTY = 0x10;
const FR_TX_FULL = 0x20;
const FR_RX_FULL = 0x40;
const FR_TX_EMPTY = 0x80;
const LCR_FIFO_ENABLED = 0x10;
const CR_UART_ENABLED = 0x001;
const CR_RX_ENABLED = 0x200;
const RX_INTERRUPT = 0x010;
const TX_INTERRUPT = 0x020;
const RX_TIMEOUT_INTERRUPT = 0x040;
const OVERRUN_INTERRUPT = 0x400;
const DR_OVERRUN = 0x800;

const FIFO_BYTES = 32;
const LEVELS = [4, 8, 16, 24, 28]; // 1/8, 1/4, 1/2, 3/4, 7/8 of the FIFO
const BITS_PER_BYTE = 10;
const TIMEOUT_BITS = 32;
const DEFAULT_BAUD = 115200; // of the line while the divisor is not set

/** `counters`: {received, sent, lost}, which outlive a reset. `send`: called with each byte sent. */
export class Uart extends BasePeripheral {
  constructor(chip, name, irq, counters, send) {
    super(chip, name);
    this.irq = irq;
    this.counters = counters;
    this.send = send;
    this.receiveFifo = [];
    this.sendFifo = [];
    this.overrun = false;
    this.shifting = null; // the byte that is on its way out
    this.integerDivisor = 0;
    this.fractionalDivisor = 0;
    this.lineControl = 0;
    this.control = 0x300;
    this.levels = 0x12;
    this.raw = 0;
    this.mask = 0;
    this.arriving = []; // on the line, not yet received
    this.sent = chip.clock.createAlarm(() => this.byteSent());
    this.arrived = chip.clock.createAlarm(() => this.byteArrived());
    this.timeout = chip.clock.createAlarm(() => this.interrupt(RX_TIMEOUT_INTERRUPT, this.receiveFifo.length > 0));
  }

  get baud() {
    const divisor = this.integerDivisor + this.fractionalDivisor / 64;
    return divisor ? this.rp2040.clkPeri / (16 * divisor) : DEFAULT_BAUD;
  }

  bitsNs(bits) {
    return (bits * 1e9) / this.baud;
  }

  get depth() {
    return this.lineControl & LCR_FIFO_ENABLED ? FIFO_BYTES : 1;
  }

  level(select, without) {
    return this.depth === 1 ? without : (LEVELS[select & 7] ?? 16);
  }

  get receiveLevel() {
    return this.level(this.levels >> 3, 1);
  }

  get sendLevel() {
    return this.level(this.levels, 0);
  }

  interrupt(bit, on) {
    this.raw = on ? this.raw | bit : this.raw & ~bit;
    this.rp2040.setInterrupt(this.irq, (this.raw & this.mask) !== 0);
  }

  // -- the line --

  /** Bytes that the other end sends: they arrive one after the other, at the line's speed. */
  deliver(data) {
    const idle = this.arriving.length === 0;
    for (const byte of data) this.arriving.push(byte);
    if (idle && this.arriving.length) this.arrived.schedule(this.bitsNs(BITS_PER_BYTE));
  }

  byteArrived() {
    this.receive(this.arriving.shift());
    if (this.arriving.length) this.arrived.schedule(this.bitsNs(BITS_PER_BYTE));
  }

  receive(byte) {
    const on = CR_UART_ENABLED | CR_RX_ENABLED;
    if ((this.control & on) !== on) {
      this.counters.lost++;
      return;
    }
    if (this.receiveFifo.length >= this.depth) {
      this.counters.lost++;
      this.overrun = true;
      this.interrupt(OVERRUN_INTERRUPT, true);
      return;
    }
    this.counters.received++;
    this.receiveFifo.push(byte | (this.overrun ? DR_OVERRUN : 0));
    this.overrun = false;
    if (this.receiveFifo.length >= this.receiveLevel) this.interrupt(RX_INTERRUPT, true);
    this.timeout.schedule(this.bitsNs(TIMEOUT_BITS));
  }

  sendNext() {
    if (this.shifting !== null || !this.sendFifo.length) return;
    this.shifting = this.sendFifo.shift();
    if (this.sendFifo.length === this.sendLevel) this.interrupt(TX_INTERRUPT, true);
    this.sent.schedule(this.bitsNs(BITS_PER_BYTE));
  }

  byteSent() {
    this.counters.sent++;
    this.send(this.shifting);
    this.shifting = null;
    this.sendNext();
  }

  // -- the registers --

  readUint32(offset) {
    switch (offset) {
      case DR:
        return this.take();
      case FR:
        return this.flags();
      case IBRD:
        return this.integerDivisor;
      case FBRD:
        return this.fractionalDivisor;
      case LCR_H:
        return this.lineControl;
      case CR:
        return this.control;
      case IFLS:
        return this.levels;
      case IMSC:
        return this.mask;
      case RIS:
        return this.raw;
      case MIS:
        return this.raw & this.mask;
    }
    return IDENTITY[offset] ?? 0;
  }

  take() {
    const value = this.receiveFifo.shift() ?? 0;
    if (this.receiveFifo.length < this.receiveLevel) this.interrupt(RX_INTERRUPT, false);
    if (!this.receiveFifo.length) {
      this.timeout.cancel();
      this.interrupt(RX_TIMEOUT_INTERRUPT, false);
    }
    return value;
  }

  flags() {
    const { receiveFifo, sendFifo, depth } = this;
    return (
      (this.shifting === null ? 0 : FR_BUSY) |
      (sendFifo.length ? 0 : FR_TX_EMPTY) |
      (sendFifo.length >= depth ? FR_TX_FULL : 0) |
      (receiveFifo.length ? 0 : FR_RX_EMPTY) |
      (receiveFifo.length >= depth ? FR_RX_FULL : 0)
    );
  }

  writeUint32(offset, value) {
    switch (offset) {
      case DR:
        this.put(value & 0xff);
        break;
      case IBRD:
        this.integerDivisor = value & 0xffff;
        break;
      case FBRD:
        this.fractionalDivisor = value & 0x3f;
        break;
      case LCR_H:
        this.lineControl = value & 0xff;
        break;
      case CR:
        this.control = value & 0xffff;
        break;
      case IFLS:
        this.levels = value & 0x3f;
        break;
      case IMSC:
        this.mask = value & 0x7ff;
        this.interrupt(0, false);
        break;
      case ICR:
        this.interrupt(this.rawWriteValue & 0x7ff, false);
        break;
    }
  }

  put(byte) {
    if (this.sendFifo.length >= this.depth) return; // lost, as in the chip
    this.sendFifo.push(byte);
    if (this.sendFifo.length > this.sendLevel) this.interrupt(TX_INTERRUPT, false);
    this.sendNext();
  }
}
