// Registers of the RP2040 that MicroPython reads or writes at its start, and whose effect is not
// modelled: values are kept.
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

/** Put them into `chip`. */
export function addRegisters(chip) {
  chip.peripherals[0x14000] = new Kept(chip, 'XIP_CTRL');
  chip.peripherals[0x40060] = new RingOscillator(chip, 'ROSC');
  chip.peripherals[0x40064] = new Kept(chip, 'VREG_AND_CHIP_RESET');
}
