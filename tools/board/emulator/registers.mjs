// Registers of the RP2040 that MicroPython reads or writes at its start, and whose effect is not
// modelled: values are kept. And the meter, which no real chip has.
import { BasePeripheral } from 'rp2040js';
import { randomInt } from 'node:crypto';

class Kept extends BasePeripheral {
  constructor(chip, name) {
    super(chip, name);
    this.registers = new Map();
  }

  readUint32(offset) {
    return this.registers.get(offset) ?? 0;
  }

  writeUint32(offset, value) {
    this.registers.set(offset, value);
  }
}

const ROSC_STATUS = 0x18;
const ROSC_RANDOM_BIT = 0x1c;
const ROSC_STABLE_AND_ENABLED = 0x80001000;

/** The ring oscillator, the source of `os.urandom`. */
class RingOscillator extends Kept {
  readUint32(offset) {
    if (offset === ROSC_RANDOM_BIT) return randomInt(2);
    return offset === ROSC_STATUS ? ROSC_STABLE_AND_ENABLED : super.readUint32(offset);
  }
}

const METER_BITS = 0x3fffffff; // a small integer of MicroPython: reading it takes no heap

/** For a program that measures itself. Offset 0: instructions, 4: microseconds in which the core
 * stood still for the flash; the lower 30 bits of each. */
class Meter extends BasePeripheral {
  constructor(chip, name, meter) {
    super(chip, name);
    this.readings = { 0: meter.instructions, 4: meter.flashMicroseconds };
  }

  readUint32(offset) {
    return Math.floor(this.readings[offset]?.() ?? 0) & METER_BITS;
  }
}

/** Put them into `chip`. `meter`: {instructions, flashMicroseconds}, functions. */
export function addRegisters(chip, meter) {
  chip.peripherals[0x400f0] = new Meter(chip, 'METER', meter);
  chip.peripherals[0x14000] = new Kept(chip, 'XIP_CTRL');
  chip.peripherals[0x40060] = new RingOscillator(chip, 'ROSC');
  chip.peripherals[0x40064] = new Kept(chip, 'VREG_AND_CHIP_RESET');
}
