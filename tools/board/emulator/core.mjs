// Runs the Cortex-M0+ of rp2040js faster: code that runs often is translated to JavaScript (see
// translate.mjs), everything else is left to the interpreter of rp2040js, which also takes the
// exceptions.
import { C, NZ, STATE_WORDS, V, translate } from './translate.mjs';

const RAM = 0x20000000;
const RAM_BYTES = 264 * 1024;
const ROM_BYTES = 16 * 1024;
const ROM_REGION = 0;
const FLASH_REGION = 1;
const RAM_REGION = 2;
const OFFSET_MASK = 0xffffff;
const HOT = 16; // visits of the interpreter before an address is translated
const BUS_CYCLES = { load: 2, store: 3 }; // of an access to a peripheral, beyond one to memory

/** `memory`: {rom, flash, ram: Uint8Array}, which stay over a reset. `code`: {flash: bytes of firmware
 * from the start of the flash, ram: [start, end]}: where code is that never changes. */
export class Processor {
  constructor(memory, code) {
    this.memory = memory;
    this.code = code;
    this.state = new Int32Array(STATE_WORDS);
    const sizes = [ROM_BYTES / 2, code.flash / 2, RAM_BYTES / 2];
    this.traces = sizes.map((size) => new Array(size)); // by region and offset
    this.visits = sizes.map((size) => new Uint8Array(size));
    this.gaveUp = false;
    this.extraCycles = 0;
    this.instructions = 0;
    this.compile = this.compiler();
  }

  /** Take over the core of `chip`, which is new or was reset. */
  attach(chip) {
    this.chip = chip;
    this.core = chip.core;
    const registers = this.core.registers;
    this.core.registers = new Uint32Array(this.state.buffer, 0, 16);
    this.core.registers.set(registers);
    this.flagsFromCore();
    const take = this.core.checkForInterrupts.bind(this.core);
    this.core.checkForInterrupts = () => {
      this.flagsToCore(); // an exception saves them
      return this.core.PM ? this.wakes() : take();
    };
  }

  /** With interrupts masked, one that is pending ends a wait and is not taken; rp2040js takes it. */
  wakes() {
    const { core } = this;
    core.interruptsUpdated = false;
    return (core.pendingInterrupts & core.enabledInterrupts) !== 0;
  }

  // The flags N and Z are the sign and the zero of a number here, four booleans in rp2040js.

  flagsFromCore() {
    const { core, state } = this;
    state[NZ] = core.N ? -1 : core.Z ? 0 : 1;
    state[C] = core.C ? 1 : 0;
    state[V] = core.V ? 1 : 0;
  }

  flagsToCore() {
    const { core, state } = this;
    core.N = state[NZ] < 0;
    core.Z = state[NZ] === 0;
    core.C = state[C] !== 0;
    core.V = state[V] !== 0;
  }

  /** Run about `limit` instructions; less when the core waits for an event or `stop()` is true.
   * `tick` gets the number of cycles that have passed, every `step` of them. */
  run(limit, step, tick, stop) {
    const { core, state } = this;
    const end = this.instructions + limit;
    let cycles = 0;
    while (this.instructions < end && !core.waiting) {
      if (core.interruptsUpdated) this.takeInterrupt();
      const trace = this.find(state[15]);
      if (trace) {
        const cost = trace();
        this.instructions += cost >>> 16;
        cycles += (cost & 0xffff) + this.extraCycles;
        this.extraCycles = 0;
      }
      if (!trace || this.gaveUp) cycles += this.interpret();
      if (cycles >= step) {
        tick(cycles);
        cycles = 0;
        if (stop()) return;
      }
    }
    tick(cycles);
  }

  /** Whether the core waits, after a look at what is pending. */
  waits() {
    if (this.core.waiting && this.core.checkForInterrupts()) this.core.waiting = false;
    return this.core.waiting;
  }

  takeInterrupt() {
    if (this.core.checkForInterrupts()) this.core.waiting = false;
  }

  interpret() {
    this.gaveUp = false;
    this.instructions++;
    this.flagsToCore();
    const cycles = this.core.executeInstruction();
    this.flagsFromCore();
    return cycles;
  }

  /** The trace at `pc`, or nothing while the interpreter has to do. */
  find(pc) {
    const region = pc >>> 28;
    const index = (pc & OFFSET_MASK) >> 1;
    const known = region < 3 ? this.traces[region][index] : null;
    if (known !== undefined) return known;
    if (!this.isCode(pc)) return null;
    if (++this.visits[region][index] < HOT) return null;
    const source = translate(pc & ~1, this);
    const trace = source ? this.compile(source) : null;
    this.traces[region][index] = trace;
    return trace;
  }

  isCode(address) {
    const region = address >>> 28;
    if (region === ROM_REGION) return address < ROM_BYTES;
    if (region === FLASH_REGION) return (address & OFFSET_MASK) < this.code.flash;
    return region === RAM_REGION && address >= this.code.ram[0] && address < this.code.ram[1];
  }

  bytes(address) {
    const { rom, flash, ram } = this.memory;
    return [rom, flash, ram][address >>> 28];
  }

  // -- what `translate` asks --

  fetch(address) {
    if (!this.isCode(address)) return undefined;
    const bytes = this.bytes(address);
    const offset = address & OFFSET_MASK;
    return bytes[offset] | (bytes[offset + 1] << 8);
  }

  constant(address) {
    if (address >>> 28 === RAM_REGION || !this.isCode(address)) return undefined;
    return new DataView(this.bytes(address).buffer).getInt32(address & OFFSET_MASK, true);
  }

  // -- what a trace uses --

  giveUp() {
    this.gaveUp = true;
  }

  masked() {
    return this.core.PM ? 1 : 0;
  }

  mask(on) {
    this.core.PM = on === 1;
    if (!on) this.core.interruptsUpdated = true;
  }

  slow(address, cycles) {
    const region = address >>> 28;
    if (region === 0xd) this.extraCycles -= 1;
    else if (region === 4 || region === 5) this.extraCycles += cycles;
  }

  /** A function that compiles the text of a trace, with its state and its memory in reach. */
  compiler() {
    const ram = this.memory.ram.buffer;
    const flash = this.memory.flash.buffer;
    const access = accessors(this, ram, flash);
    const names = ['R', 'm', ...Object.keys(access)];
    const values = [this.state, this, ...Object.values(access)];
    return (source) => new Function(...names, source)(...values);
  }
}

/** Loads and stores. RAM and flash are read here, RAM is written here; the rest is rp2040js's. */
function accessors(processor, ram, flash) {
  const [ram8, ram16, ram32] = [new Uint8Array(ram), new Uint16Array(ram), new Int32Array(ram)];
  const [flash8, flash16, flash32] = [new Uint8Array(flash), new Uint16Array(flash), new Int32Array(flash)];
  const inFlash = (address) => address >>> 26 === 4; // 0x10000000 to 0x13ffffff, four times the same

  const far32 = (address) => {
    if (inFlash(address)) return flash32[(address & OFFSET_MASK) >> 2];
    processor.slow(address, BUS_CYCLES.load);
    return processor.chip.readUint32(address >>> 0) | 0;
  };
  const far16 = (address) => {
    if (inFlash(address)) return flash16[(address & OFFSET_MASK) >> 1];
    processor.slow(address, BUS_CYCLES.load);
    return processor.chip.readUint16(address >>> 0);
  };
  const far8 = (address) => {
    if (inFlash(address)) return flash8[address & OFFSET_MASK];
    processor.slow(address, BUS_CYCLES.load);
    return processor.chip.readUint8(address >>> 0);
  };
  const put = (write) => (address, value) => {
    processor.slow(address, BUS_CYCLES.store);
    write(processor.chip, address >>> 0, value >>> 0);
  };
  const put32 = put((chip, address, value) => chip.writeUint32(address, value));
  const put16 = put((chip, address, value) => chip.writeUint16(address, value));
  const put8 = put((chip, address, value) => chip.writeUint8(address, value));
  const ld32 = (address) => {
    const offset = (address - RAM) >>> 0;
    return offset < RAM_BYTES ? ram32[offset >>> 2] : far32(address);
  };
  const ld16 = (address) => {
    const offset = (address - RAM) >>> 0;
    return offset < RAM_BYTES ? ram16[offset >>> 1] : far16(address);
  };
  const ld8 = (address) => {
    const offset = (address - RAM) >>> 0;
    return offset < RAM_BYTES ? ram8[offset] : far8(address);
  };
  return {
    ld32,
    ld16,
    ld8,
    lds16: (address) => (ld16(address) << 16) >> 16,
    lds8: (address) => (ld8(address) << 24) >> 24,
    st32: (address, value) => {
      const offset = (address - RAM) >>> 0;
      if (offset < RAM_BYTES) ram32[offset >>> 2] = value;
      else put32(address, value);
    },
    st16: (address, value) => {
      const offset = (address - RAM) >>> 0;
      if (offset < RAM_BYTES) ram16[offset >>> 1] = value;
      else put16(address, value);
    },
    st8: (address, value) => {
      const offset = (address - RAM) >>> 0;
      if (offset < RAM_BYTES) ram8[offset] = value;
      else put8(address, value);
    },
  };
}
