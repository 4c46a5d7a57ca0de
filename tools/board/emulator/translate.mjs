// Translates Thumb code (ARMv6-M) to JavaScript. A trace starts at an address and follows the code
// over conditional branches that are not taken, branches, and calls; it ends at a jump whose target
// is not known before. Within a trace each register is a constant of JavaScript for as long as it
// keeps its value, and a flag is computed only where it is read.
//
// State `R`, 32-bit integers: 0 to 15 the registers; NZ a result with the sign and the zero that the
// flags N and Z tell; C and V the flags, 0 or 1.
export const NZ = 16;
export const C = 17;
export const V = 18;
export const STATE_WORDS = 19;

const LONGEST = 64; // instructions of a trace
const REPEATS = 32; // rounds of a trace that ends where it begins
const PC = 15;
const LR = 14;
const SP = 13;

/** The text of a trace. */
class Trace {
  constructor(start) {
    this.start = start;
    this.pc = start;
    this.lines = [];
    this.names = 0;
    this.values = new Map(); // register -> name of the constant with its value
    this.changed = new Set(); // registers to write back
    this.constants = new Map(); // name -> number, where it is known
    this.flags = { nz: `R[${NZ}]`, c: `R[${C}]`, v: `R[${V}]` };
    this.flagsChanged = false;
    this.compared = null; // [a, b] while the flags are those of a - b
    this.instructions = 0;
    this.cycles = 0;
    this.repeats = false;
    this.ended = false;
  }

  define(expression) {
    const name = `t${this.names++}`;
    this.lines.push(`const ${name} = ${expression};`);
    return name;
  }

  get(register) {
    if (register === PC) return String((this.pc + 4) | 0);
    let name = this.values.get(register);
    if (name === undefined) {
      name = this.define(`R[${register}]`);
      this.values.set(register, name);
    }
    return name;
  }

  set(register, expression) {
    const name = /^t\d+$/.test(expression) ? expression : this.define(expression);
    this.values.set(register, name);
    this.changed.add(register);
    return name;
  }

  setConstant(register, value) {
    const name = this.set(register, String(value | 0));
    this.constants.set(name, value | 0);
    return name;
  }

  constant(register) {
    return this.constants.get(this.values.get(register));
  }

  setNZ(name) {
    this.flags = { ...this.flags, nz: name };
    this.flagsChanged = true;
    this.compared = null;
  }

  setC(expression) {
    this.flags = { ...this.flags, c: expression };
  }

  added(a, b, result) {
    this.setNZ(result);
    this.flags.c = `((${result} >>> 0) < (${a} >>> 0) ? 1 : 0)`;
    this.flags.v = `(((${a} ^ ${result}) & (${b} ^ ${result})) < 0 ? 1 : 0)`;
  }

  subtracted(a, b, result) {
    this.setNZ(result);
    this.flags.c = `((${a} >>> 0) >= (${b} >>> 0) ? 1 : 0)`;
    this.flags.v = `(((${a} ^ ${b}) & (${a} ^ ${result})) < 0 ? 1 : 0)`;
    this.compared = [a, b];
  }

  /** a + b + carry. */
  addedWithCarry(a, b) {
    const carry = this.define(this.flags.c);
    const result = this.define(`(${a} + ${b} + ${carry}) | 0`);
    this.setNZ(result);
    this.flags.c = `((${a} >>> 0) + (${b} >>> 0) + ${carry} > 0xffffffff ? 1 : 0)`;
    this.flags.v = `(((${a} ^ ${result}) & (${b} ^ ${result})) < 0 ? 1 : 0)`;
    return result;
  }

  condition(code) {
    const { nz, c, v } = this.flags;
    const test = this.compared ? comparison(code >> 1, ...this.compared) : null;
    const positive = test ?? [
      `${nz} === 0`,
      `${c} !== 0`,
      `${nz} < 0`,
      `${v} !== 0`,
      `(${c} !== 0 && ${nz} !== 0)`,
      `(${nz} < 0) === (${v} !== 0)`,
      `(${nz} !== 0 && (${nz} < 0) === (${v} !== 0))`,
    ][code >> 1];
    return code & 1 ? `!(${positive})` : positive;
  }

  /** Statements that write back what changed. */
  writeBack() {
    const lines = [...this.changed].map((register) => `R[${register}] = ${this.values.get(register)};`);
    const { nz, c, v } = this.flags;
    if (this.flagsChanged) {
      // C and V may be written from old values of each other: read all before the first write.
      lines.unshift(`const nz = ${nz}, c = ${c}, v = ${v};`);
      lines.push(`R[${NZ}] = nz; R[${C}] = c; R[${V}] = v;`);
    }
    return lines.join(' ');
  }

  /** Leave for `target`, an expression or an address. extra: cycles of the jump. */
  leave(target, extra = 0) {
    const cost = (this.instructions << 16) + this.cycles + extra;
    if (target === this.start) {
      this.repeats = true;
      return `{ ${this.writeBack()} cost += ${cost}; if (++round < ${REPEATS}) continue; R[15] = ${target}; return cost; }`;
    }
    return `{ ${this.writeBack()} R[15] = ${target}; return cost + ${cost}; }`;
  }

  end(target, extra = 0) {
    this.lines.push(this.leave(target, extra));
    this.ended = true;
  }

  /** Leave before this instruction, which the interpreter has to carry out. */
  giveUp() {
    return `{ ${this.writeBack()} R[15] = ${this.pc}; m.giveUp(); return cost + ${(this.instructions << 16) + this.cycles}; }`;
  }

  /** Jump to `name`, a value with the Thumb bit; the return from an exception is not translated. */
  jump(name, extra) {
    this.lines.push(`if ((${name} >>> 28) === 15) ${this.giveUp()}`);
    this.count();
    this.end(`${name} & ~1`, extra);
  }

  count(cycles = 1) {
    this.instructions++;
    this.cycles += cycles;
  }

  source() {
    const body = this.lines.join('\n');
    return `return function () { let cost = 0, round = 0; for (;;) {\n${body}\n} };`;
  }
}

function comparison(code, a, b) {
  return [
    `${a} === ${b}`,
    `(${a} >>> 0) >= (${b} >>> 0)`,
    null,
    null,
    `(${a} >>> 0) > (${b} >>> 0)`,
    `${a} >= ${b}`,
    `${a} > ${b}`,
  ][code];
}

const signed = (value, bits) => (value << (32 - bits)) >> (32 - bits);

// -- instructions: each takes a trace and the opcode, and returns false if it does not know it --

function shiftImmediate(t, op) {
  const kind = (op >> 11) & 3;
  const amount = (op >> 6) & 31;
  const x = t.get((op >> 3) & 7);
  const shifted = [
    [amount ? `${x} << ${amount}` : x, amount ? `(${x} >>> ${32 - amount}) & 1` : null],
    [amount ? `${x} >>> ${amount} | 0` : '0', `(${x} >>> ${amount ? amount - 1 : 31}) & 1`],
    [`${x} >> ${amount || 31}`, `(${x} >> ${amount ? amount - 1 : 31}) & 1`],
  ][kind];
  t.setNZ(t.set(op & 7, shifted[0]));
  if (shifted[1]) t.setC(`(${shifted[1]})`);
  t.count();
}

function addSubtract(t, op) {
  const a = t.get((op >> 3) & 7);
  const b = op & 0x400 ? String((op >> 6) & 7) : t.get((op >> 6) & 7);
  arithmetic(t, op & 0x200, a, b, op & 7);
}

function arithmetic(t, subtract, a, b, destination) {
  const result = t.define(`(${a} ${subtract ? '-' : '+'} ${b}) | 0`);
  if (subtract) t.subtracted(a, b, result);
  else t.added(a, b, result);
  if (destination !== null) t.set(destination, result);
  t.count();
}

function immediate8(t, op) {
  const register = (op >> 8) & 7;
  const value = String(op & 255);
  const kind = (op >> 11) & 3;
  if (kind === 0) {
    t.setNZ(t.setConstant(register, op & 255));
    t.count();
  } else arithmetic(t, kind & 1, t.get(register), value, kind === 1 ? null : register);
}

/** The sixteen operations on two low registers. */
function dataProcessing(t, op) {
  const destination = op & 7;
  const x = t.get(destination);
  const y = t.get((op >> 3) & 7);
  const logical = (expression, keep = true) => {
    const result = t.define(expression);
    t.setNZ(result);
    if (keep) t.set(destination, result);
  };
  const shift = (result, carry) => {
    const amount = t.define(`${y} & 255`);
    const before = t.define(t.flags.c);
    const value = t.define(result(amount));
    const after = t.define(`${amount} === 0 ? ${before} : (${carry(amount, value)})`);
    t.setNZ(t.set(destination, value));
    t.setC(after);
  };
  const operations = [
    () => logical(`${x} & ${y}`),
    () => logical(`${x} ^ ${y}`),
    () => shift((s) => `${s} < 32 ? ${x} << ${s} : 0`, (s) => `${s} <= 32 ? (${x} >>> (32 - ${s})) & 1 : 0`),
    () => shift((s) => `${s} < 32 ? ${x} >>> ${s} | 0 : 0`, (s) => `${s} <= 32 ? (${x} >>> (${s} - 1)) & 1 : 0`),
    () => shift((s) => `${x} >> (${s} < 31 ? ${s} : 31)`, (s) => `(${x} >> (${s} < 32 ? ${s} - 1 : 31)) & 1`),
    () => t.set(destination, t.addedWithCarry(x, y)),
    () => t.set(destination, t.addedWithCarry(x, t.define(`~${y}`))),
    () => shift((s) => `(${x} >>> (${s} & 31)) | (${s} & 31 ? ${x} << (32 - (${s} & 31)) : 0)`, (s, value) => `${value} >>> 31`),
    () => logical(`${x} & ${y}`, false),
    () => {
      const result = t.define(`(0 - ${y}) | 0`);
      t.subtracted('0', y, result);
      t.set(destination, result);
    },
    () => t.subtracted(x, y, t.define(`(${x} - ${y}) | 0`)),
    () => t.added(x, y, t.define(`(${x} + ${y}) | 0`)),
    () => logical(`${x} | ${y}`),
    () => logical(`Math.imul(${x}, ${y})`),
    () => logical(`${x} & ~${y}`),
    () => logical(`~${y}`),
  ];
  operations[(op >> 6) & 15]();
  t.count();
}

/** ADD, CMP and MOV with any register; BX and BLX. */
function highRegisters(t, op) {
  const other = (op >> 3) & 15;
  const destination = (op & 7) | ((op >> 4) & 8);
  const kind = (op >> 8) & 3;
  if (kind === 3) return exchange(t, op, other);
  if (kind === 1) {
    arithmetic(t, true, t.get(destination), t.get(other), null);
    return true;
  }
  const value = kind === 0 ? t.define(`(${t.get(destination)} + ${t.get(other)}) | 0`) : t.get(other);
  if (destination === PC) {
    t.count();
    t.end(`${value} & ~1`, 1);
  } else {
    t.set(destination, destination === SP ? `${value} & ~3` : other === PC ? `${value} | 0` : value);
    t.count();
  }
  return true;
}

function exchange(t, op, register) {
  if (register === PC) return false;
  if (op & 0x80) {
    const target = t.get(register);
    t.setConstant(LR, (t.pc + 2) | 1);
    t.count();
    t.end(`${target} & ~1`, 1);
    return true;
  }
  const known = t.constant(register);
  if (register === LR && known !== undefined) {
    t.count(2); // the call is part of this trace
    t.next = known & ~1;
  } else t.jump(t.get(register), 1);
  return true;
}

function loadLiteral(t, op, memory) {
  const address = ((t.pc + 4) & ~3) + ((op & 255) << 2);
  const register = (op >> 8) & 7;
  const value = memory.constant(address);
  if (value === undefined) t.set(register, `ld32(${address | 0})`);
  else t.setConstant(register, value);
  t.count(2);
}

function load(t, register, how, address) {
  t.set(register, `${how}(${address})`);
  t.count(2);
}

function store(t, register, how, address) {
  t.lines.push(`${how}(${address}, ${t.get(register)});`);
  t.count(2);
}

function registerOffset(t, op) {
  const address = t.define(`(${t.get((op >> 3) & 7)} + ${t.get((op >> 6) & 7)}) | 0`);
  const how = ['st32', 'st16', 'st8', 'lds8', 'ld32', 'ld16', 'ld8', 'lds16'][(op >> 9) & 7];
  (how.startsWith('st') ? store : load)(t, op & 7, how, address);
}

/** Word, byte and halfword with an immediate offset. */
function immediateOffset(t, op) {
  const isLoad = op & 0x800;
  const [scale, how] = { 6: [2, '32'], 7: [0, '8'], 8: [1, '16'] }[op >> 12];
  const address = t.define(`(${t.get((op >> 3) & 7)} + ${((op >> 6) & 31) << scale}) | 0`);
  if (isLoad) load(t, op & 7, `ld${how}`, address);
  else store(t, op & 7, `st${how}`, address);
}

function stackOffset(t, op) {
  const address = t.define(`(${t.get(SP)} + ${(op & 255) << 2}) | 0`);
  const register = (op >> 8) & 7;
  if (op & 0x800) load(t, register, 'ld32', address);
  else store(t, register, 'st32', address);
}

function address(t, op) {
  const offset = (op & 255) << 2;
  const register = (op >> 8) & 7;
  if (op & 0x800) t.set(register, `(${t.get(SP)} + ${offset}) | 0`);
  else t.setConstant(register, ((t.pc + 4) & ~3) + offset);
  t.count();
}

function push(t, op) {
  const registers = list(op & 255);
  if (op & 0x100) registers.push(LR);
  const base = t.define(`(${t.get(SP)} - ${4 * registers.length}) | 0`);
  registers.forEach((register, i) => t.lines.push(`st32((${base} + ${4 * i}) | 0, ${t.get(register)});`));
  t.set(SP, base);
  t.count(1 + registers.length);
}

function pop(t, op) {
  const registers = list(op & 255);
  const base = t.get(SP);
  const values = registers.map((_, i) => t.define(`ld32((${base} + ${4 * i}) | 0)`));
  const size = 4 * registers.length;
  let target = null;
  if (op & 0x100) {
    target = t.define(`ld32((${base} + ${size}) | 0)`);
    t.lines.push(`if ((${target} >>> 28) === 15) ${t.giveUp()}`);
  }
  registers.forEach((register, i) => t.set(register, values[i]));
  t.set(SP, `(${base} + ${size + (target ? 4 : 0)}) | 0`);
  t.count(1 + registers.length);
  if (target) t.end(`${target} & ~1`, 2);
}

function multiple(t, op) {
  const registers = list(op & 255);
  const base = (op >> 8) & 7;
  const start = t.get(base);
  const at = (i) => `(${start} + ${4 * i}) | 0`;
  if (op & 0x800) {
    const values = registers.map((_, i) => t.define(`ld32(${at(i)})`));
    registers.forEach((register, i) => t.set(register, values[i]));
  } else registers.forEach((register, i) => t.lines.push(`st32(${at(i)}, ${t.get(register)});`));
  if (!(op & 0x800) || !registers.includes(base)) t.set(base, at(registers.length));
  t.count(1 + registers.length);
}

function list(bits) {
  return [0, 1, 2, 3, 4, 5, 6, 7].filter((register) => bits & (1 << register));
}

const EXTENSIONS = {
  0xb200: (x) => `(${x} << 16) >> 16`,
  0xb240: (x) => `(${x} << 24) >> 24`,
  0xb280: (x) => `${x} & 0xffff`,
  0xb2c0: (x) => `${x} & 0xff`,
  0xba00: (x) => `(${x} << 24) | ((${x} & 0xff00) << 8) | ((${x} >>> 8) & 0xff00) | (${x} >>> 24)`,
  0xba40: (x) => `((${x} & 0x00ff00ff) << 8) | ((${x} >>> 8) & 0x00ff00ff)`,
  0xbac0: (x) => `((${x} << 24) >> 16) | ((${x} >>> 8) & 0xff)`,
};

function miscellaneous(t, op) {
  const extension = EXTENSIONS[op & 0xffc0];
  if (extension) {
    t.set(op & 7, extension(t.get((op >> 3) & 7)));
    t.count();
  } else if ((op & 0xff00) === 0xb000) {
    const offset = (op & 127) << 2;
    t.set(SP, `(${t.get(SP)} ${op & 0x80 ? '-' : '+'} ${offset}) | 0`);
    t.count();
  } else if ((op & 0xfe00) === 0xb400) push(t, op);
  else if ((op & 0xfe00) === 0xbc00) pop(t, op);
  else if (op === 0xb672) {
    t.lines.push('m.mask(1);');
    t.count();
  } else if (op === 0xb662) {
    t.lines.push('m.mask(0);');
    t.count();
    t.end(t.pc + 2); // an interrupt that waited comes now
  } else if (op === 0xbf00) t.count();
  else return false;
  return true;
}

function conditionalBranch(t, op) {
  const code = (op >> 8) & 15;
  if (code >= 14) return false;
  const target = t.pc + 4 + signed((op & 255) << 1, 9);
  const test = t.condition(code);
  t.count();
  t.lines.push(`if (${test}) ${t.leave(target, 1)}`);
  return true;
}

function branch(t, op) {
  t.count(2);
  t.next = t.pc + 4 + signed((op & 0x7ff) << 1, 12);
}

const PRIMASK = 16;

/** Instructions of 32 bits: BL, barriers, and the interrupt mask. */
function wide(t, op, second) {
  if (op >> 11 === 0b11110 && second >> 14 === 3 && second & 0x1000) {
    const s = (op >> 10) & 1;
    const i1 = 1 ^ s ^ ((second >> 13) & 1);
    const i2 = 1 ^ s ^ ((second >> 11) & 1);
    const offset = signed((s << 24) | (i1 << 23) | (i2 << 22) | ((op & 0x3ff) << 12) | ((second & 0x7ff) << 1), 25);
    t.setConstant(LR, (t.pc + 4) | 1);
    t.count(3);
    t.next = t.pc + 4 + offset;
  } else if (op === 0xf3bf && second >> 8 === 0x8f) {
    t.count(3);
    t.next = t.pc + 4;
  } else if (op === 0xf3ef && (second & 0xf0ff) === (0x8000 | PRIMASK)) {
    t.set((second >> 8) & 15, 'm.masked()');
    t.count(3);
    t.next = t.pc + 4;
  } else if (op >> 4 === 0xf38 && second === (0x8800 | PRIMASK)) {
    t.lines.push(`m.mask(${t.get(op & 15)} & 1);`);
    t.count(3);
    t.end(t.pc + 4);
  } else return false;
  return true;
}

const known = (instruction) => (t, op, memory) => {
  instruction(t, op, memory);
  return true;
};

/** The instructions by the upper five bits of the opcode. */
const BY_PREFIX = [
  ...Array(3).fill(known(shiftImmediate)),
  known(addSubtract),
  ...Array(4).fill(known(immediate8)),
  (t, op) => (op & 0x400 ? highRegisters(t, op) : known(dataProcessing)(t, op)),
  known(loadLiteral),
  ...Array(2).fill(known(registerOffset)),
  ...Array(6).fill(known(immediateOffset)),
  ...Array(2).fill(known(stackOffset)),
  ...Array(2).fill(known(address)),
  ...Array(2).fill(miscellaneous),
  ...Array(2).fill(known(multiple)),
  ...Array(2).fill(conditionalBranch),
  known(branch),
  () => false,
];

/** The JavaScript of the trace from `start`, or null if its first instruction has no translation.
 * `memory`: {fetch(address): 16 bits, or undefined where there is no code to translate;
 * constant(address): a word that never changes, or undefined}. The function that the text makes of
 * `R`, `m` and the loads and stores runs the trace, leaves the address of the next instruction in
 * R[15], and returns instructions << 16 + cycles. */
export function translate(start, memory) {
  const trace = new Trace(start);
  const seen = new Set();
  while (!trace.ended && trace.instructions < LONGEST && !seen.has(trace.pc)) {
    seen.add(trace.pc);
    if (!one(trace, memory)) break;
    if (!trace.ended) trace.pc = trace.next;
  }
  if (!trace.instructions && !trace.ended) return null;
  if (!trace.ended) trace.end(trace.pc);
  return trace.source();
}

function one(trace, memory) {
  const op = memory.fetch(trace.pc);
  if (op === undefined) return false;
  trace.next = trace.pc + 2;
  if (op >> 11 <= 0b11101) return BY_PREFIX[op >> 11](trace, op, memory);
  return wide(trace, op, memory.fetch(trace.pc + 2) ?? 0);
}
