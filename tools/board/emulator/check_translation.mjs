// node check_translation.mjs [ROUNDS]: each instruction that translate.mjs knows, with random operands
// and flags, does the same to registers, flags and memory as the interpreter of rp2040js does.
// Prints the number of comparisons as JSON, or the first difference.
import { ConsoleLogger, LogLevel, RP2040 } from 'rp2040js';
import { randomInt } from 'node:crypto';
import { Processor } from './core.mjs';
import { C, NZ, V, translate } from './translate.mjs';

const RAM = 0x20000000;
const CODE = RAM + 0x100;
const DATA = RAM + 0x8000;
const EDGES = [0, 1, 2, 31, 32, 33, 255, 256, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe];

const rounds = Number(process.argv[2] ?? 40);
const memory = { rom: new Uint8Array(16384), flash: new Uint8Array(1 << 24), ram: new Uint8Array(264 * 1024) };
const chip = new RP2040();
chip.logger = new ConsoleLogger(LogLevel.Error + 1, false);
Object.assign(chip, { flash: memory.flash, sram: memory.ram, sramView: new DataView(memory.ram.buffer) });
const code = { flash: 0, ram: [CODE, CODE + 256] };
const interpreter = new Processor(memory, code);
interpreter.attach(chip);

// Where rp2040js differs from the architecture [DDI 0419]: shifts by 0 and by 32 and more, the overflow of an
// addition with carry, BLX LR, and a store of several registers whose base is among them. `EXPECTED` is
// computed by hand for those.
const SHIFTS = [2, 3, 4, 7].map((operation) => 0x4000 | (operation << 6));
const WITH_CARRY = [0x4140, 0x4180];
const EXPECTED = [
  // opcode, r0, r1, C before: r0, N Z C V after
  [0x4088, 5, 32, 0, 0, '0110'], // LSLS r0, r1
  [0x4088, 5, 33, 1, 0, '0100'],
  [0x40c8, 0x80000000, 32, 0, 0, '0110'], // LSRS
  [0x40c8, 0x80000000, 33, 1, 0, '0100'],
  [0x4108, 0x80000000, 40, 0, -1, '1010'], // ASRS
  [0x4108, 4, 32, 1, 0, '0100'],
  [0x41c8, 0x80000001, 32, 0, 0x80000001, '1010'], // RORS
  [0x41c8, 1, 33, 0, 0x80000000, '1010'],
  [0x4088, 5, 0, 1, 5, '0010'],
  [0x40c8, 5, 256, 1, 5, '0010'],
  [0x4108, 5, 0, 1, 5, '0010'],
  [0x41c8, 5, 0, 1, 5, '0010'],
  [0x4148, 0x7fffffff, 0, 1, 0x80000000, '1001'], // ADCS
  [0x4148, -1, 0, 1, 0, '0110'],
  [0x4148, -1, -1, 1, -1, '1010'],
  [0x4188, 0x80000000, 0, 0, 0x7fffffff, '0011'], // SBCS
  [0x4188, 5, 5, 1, 0, '0110'],
  [0x4188, 5, 5, 0, -1, '1000'],
];

function rp2040jsIsWrong(op, { registers }) {
  const kind = op & 0xffc0;
  if (SHIFTS.includes(kind)) return ((registers[(op >> 3) & 7] & 255) - 1) >>> 0 >= 31; // by 0, by 32 and more
  if (WITH_CARRY.includes(kind)) return true;
  if (op >> 8 === 0x47) return (op & 7) !== 0 || op === 0x47f0; // not an instruction; BLX LR
  return op >> 11 === 0b11000 && (op & (1 << ((op >> 8) & 7))) !== 0;
}

const isLoadOrStore = (op) => op >> 12 >= 5 && op >> 12 <= 9;
const isMultiple = (op) => op >> 12 === 0xc || (op & 0xf600) === 0xb400;

/** Opcodes to try: all of the data processing, and a sample of the rest. */
function* opcodes() {
  for (let op = 0; op < 0xe800; op++) {
    if ((op & 0xff00) === 0xbe00 || (op & 0xff00) === 0xde00 || (op & 0xff00) === 0xdf00) continue; // breaks, SVC
    if (op >> 12 === 0xb && ((op & 0xff00) === 0xbf00 || (op & 0xffe8) === 0xb660)) continue; // hints, CPS
    if (op % 7 === 0 || op >> 10 === 0b010000 || op >> 10 === 0b010001) yield op;
  }
}

function prepare(op) {
  const registers = new Int32Array(16);
  for (let i = 0; i < 13; i++) registers[i] = randomInt(3) ? randomInt(2 ** 32) : EDGES[randomInt(EDGES.length)];
  if (isLoadOrStore(op)) {
    registers[(op >> 3) & 7] = DATA + 4 * randomInt(256);
    if (op >> 12 === 5) registers[(op >> 6) & 7] = 4 * randomInt(256);
    if (op >> 12 === 5 && ((op >> 3) & 7) === ((op >> 6) & 7)) return null; // twice an address
  }
  if (op >> 12 === 0xc) registers[(op >> 8) & 7] = DATA;
  registers[13] = DATA + 4 * randomInt(256);
  registers[14] = CODE + 1;
  registers[15] = CODE;
  const flags = [randomInt(3) - 1, randomInt(2), randomInt(2)];
  return { registers, flags };
}

function fillData() {
  const data = new Uint8Array(4096);
  for (let i = 0; i < data.length; i++) data[i] = randomInt(256);
  return data;
}
const data = fillData();

/** Run `op` once; the state afterwards as text. */
function run(processor, op, { registers, flags }, translated) {
  memory.ram.set(data, DATA - RAM);
  new DataView(memory.ram.buffer).setUint16(CODE - RAM, op, true);
  processor.state.set(registers);
  [processor.state[NZ], processor.state[C], processor.state[V]] = flags;
  chip.core.registers = new Uint32Array(processor.state.buffer, 0, 16);
  chip.core.interruptsUpdated = false;
  processor.flagsToCore();
  if (!translated) processor.interpret();
  else if (!translated()) return null;
  const { state } = processor;
  state[15] &= ~1;
  const after = [...state.subarray(0, 16)].map((value) => (value >>> 0).toString(16));
  return `${after.join(' ')} ${flagText(state)} ${Buffer.from(memory.ram.subarray(DATA - RAM, DATA - RAM + 4096)).toString('base64')}`;
}

const flagText = (state) => [state[NZ] < 0, state[NZ] === 0, state[C] !== 0, state[V] !== 0].map(Number).join('');

function traceOf(op) {
  new DataView(memory.ram.buffer).setUint16(CODE - RAM, op, true);
  const source = translate(CODE, translating);
  return source && translating.compile(source);
}

function fail(op, ...what) {
  console.log(op.toString(16), ...what);
  process.exit(1);
}

function compare(op, trace) {
  const before = prepare(op);
  if (!before || rp2040jsIsWrong(op, before)) return 0;
  const want = run(interpreter, op, before, null);
  const got = run(translating, op, before, () => {
    translating.gaveUp = false;
    trace();
    return !translating.gaveUp; // the interpreter would carry it out
  });
  if (got !== null && want !== got) fail(op, JSON.stringify(before), want.slice(0, 200), got.slice(0, 200));
  return got === null ? 0 : 1;
}

let compared = 0;
const translating = new Processor(memory, { flash: 0, ram: [CODE, CODE + 2] }); // one instruction
translating.attach(chip);
for (const op of opcodes()) {
  const trace = traceOf(op);
  const times = op >> 10 === 0b010000 ? rounds * 4 : isMultiple(op) ? 2 : Math.ceil(rounds / 20);
  for (let i = 0; trace && i < times; i++) compared += compare(op, trace);
}
for (const [op, r0, r1, carry, result, flags] of EXPECTED) {
  const { state } = translating;
  state[0] = r0;
  state[1] = r1;
  [state[NZ], state[C], state[V]] = [1, carry, 0];
  traceOf(op)();
  if (state[0] !== (result | 0) || flagText(state) !== flags) fail(op, r0, r1, state[0], flagText(state));
  compared++;
}
console.log(JSON.stringify({ compared }));
