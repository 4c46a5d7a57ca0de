// The board: an RP2040 with its flash, its UART and its USB port, its power and its time.
import { ConsoleLogger, LogLevel, RP2040 } from 'rp2040js';
import { Processor } from './core.mjs';
import { Flash, FlashFile, QspiPads } from './flash.mjs';
import { addRegisters } from './registers.mjs';
import { Stack } from './stack.mjs';
import { Uart } from './uart.mjs';
import { UsbSerial } from './usb.mjs';
import { connectWatchdog } from './watchdog.mjs';

const FLASH_START = 0x10000000;
const MAPPED_FLASH = 16 * 1024 * 1024;
const RAM_BYTES = 264 * 1024;
const CYCLE_NS = 8; // 125 MHz
const UART0_IRQ = 20;
const UART1_IRQ = 21;
const SLICE_MS = 8; // of this machine, between two looks at its sockets
const LOOK = 10000; // instructions between two looks at the clock of this machine
const IDLE_NS = 1e6; // the longest step of an idle core
const AHEAD_NS = 1e6; // how far the board's time may be ahead of this machine's
const CYCLES_PER_TICK = 64; // the peripherals see time in steps of half a microsecond

/** The level of a pin at ground, or of an open one: rp2040js has that low, pulled up or not.
 * `grounded`: the numbers of the pins at ground. */
const levelOfPin = (grounded) => ({
  get() {
    return this.pullupEnabled && !grounded.has(this.index);
  },
  set() {},
});

/** `parts`: {bootrom: Uint32Array, flash: path, symbols: the addresses that the build wrote}.
 * `events`: {usbUp(), usbData(data), usbDown(), uartData(byte), power(on)}. */
export class Board {
  constructor(parts, events) {
    this.bootrom = parts.bootrom;
    this.flashFile = new FlashFile(parts.flash);
    this.stack = new Stack(parts.symbols);
    this.memory = {
      rom: new Uint8Array(parts.bootrom.buffer),
      flash: new Uint8Array(MAPPED_FLASH),
      ram: new Uint8Array(RAM_BYTES),
    };
    this.memory.flash.set(this.flashFile.bytes);
    this.processor = new Processor(this.memory, {
      flash: Number(parts.symbols.code_end) - FLASH_START,
      ram: [Number(parts.symbols.data_start), Number(parts.symbols.data_end)],
    });
    this.events = events;
    this.grounded = new Set();
    this.powered = false;
    this.resetWanted = false;
    this.resets = 0;
    this.uartCounters = { received: 0, sent: 0, lost: 0 };
    this.usbCounters = { received: 0, sent: 0 };
    this.flashNanoseconds = 0; // in which the core stood still for the flash
    this.start = 0; // this machine's nanoseconds at the board's time 0
    this.powerOn();
  }

  // -- power --

  powerOn() {
    if (this.powered) return;
    this.flashFile.powerOn();
    this.boot();
    this.events.power(true);
  }

  powerOff() {
    if (!this.powered) return;
    this.powered = false;
    this.cut = false;
    this.events.usbDown();
    this.events.power(false);
  }

  /** The reset button: everything restarts, RAM keeps its contents. */
  reset() {
    this.events.usbDown();
    this.boot();
  }

  /** The same by the watchdog, which `machine.reset` uses too. */
  resetByWatchdog() {
    this.events.usbDown();
    this.boot(true);
  }

  boot(byWatchdog = false) {
    const before = this.chip;
    const chip = (this.chip = new RP2040());
    chip.logger = new ConsoleLogger(LogLevel.Error + 1, false);
    chip.loadBootrom(this.bootrom);
    if (before) chip.clock.nanosCounter = before.clock.nanosCounter;
    if (!this.powered) this.memory.ram.fill(0);
    this.share(chip);
    this.connect(chip);
    connectWatchdog(chip, byWatchdog ? before : null, () => (this.resetWanted = true));
    this.processor.attach(chip);
    chip.core.PC = FLASH_START; // the second stage of the boot loader; the first is not run
    this.powered = true;
    this.resetWanted = false;
    this.resets++;
    this.stack.mark(chip);
  }

  /** Let the chip use this board's memory, which outlives the chip. */
  share(chip) {
    const { flash, ram } = this.memory;
    Object.assign(chip, {
      flash,
      flash16: new Uint16Array(flash.buffer),
      flashView: new DataView(flash.buffer),
      sram: ram,
      sramView: new DataView(ram.buffer),
    });
  }

  connect(chip) {
    const flash = new Flash(chip, this.flashFile, {
      powerLost: () => (this.cut = true),
      waited: (nanoseconds) => {
        this.flashNanoseconds += nanoseconds;
        this.start -= nanoseconds; // the emulation itself does not wait for the flash
      },
    });
    chip.peripherals[0x18000] = flash;
    chip.peripherals[0x40018] = new QspiPads(chip, flash);
    addRegisters(chip, {
      instructions: () => this.processor.instructions,
      flashMicroseconds: () => this.flashNanoseconds / 1000,
    });
    const level = levelOfPin(this.grounded);
    for (const pin of chip.gpio) Object.defineProperty(pin, 'rawInputValue', level);
    const unused = { received: 0, sent: 0, lost: 0 };
    chip.peripherals[0x40034] = new Uart(chip, 'UART0', UART0_IRQ, unused, () => {});
    this.uart = new Uart(chip, 'UART1', UART1_IRQ, this.uartCounters, (byte) => this.events.uartData(byte));
    chip.peripherals[0x40038] = this.uart;
    this.usb = new UsbSerial(chip, this.usbCounters, {
      up: () => this.events.usbUp(),
      data: (data) => this.events.usbData(data),
    });
  }

  // -- pins --

  /** Connect a pin to ground, or leave it open. */
  ground(pin, connected) {
    if (connected) this.grounded.add(pin);
    else this.grounded.delete(pin);
  }

  // -- time --

  /** Run for SLICE_MS of this machine at most. Returns the milliseconds to wait before the next call.
   * While the core waits, the board's time follows this machine's clock; while it computes too slowly,
   * the board's time falls behind, and the delay is not caught up. */
  run() {
    if (!this.powered) return SLICE_MS;
    const end = performance.now() + SLICE_MS;
    while (this.powered && this.step() && performance.now() < end);
    const ahead = this.chip.clock.nanos - this.elapsed();
    if (ahead < 0) this.start -= ahead;
    return ahead > AHEAD_NS ? Math.min(ahead / 1e6, SLICE_MS) : 0;
  }

  elapsed() {
    return performance.now() * 1e6 - this.start;
  }

  /** A number of instructions, or a wait. Returns false when the core waits and is ahead. */
  step() {
    let working = true;
    if (this.processor.waits()) working = this.idle();
    else this.execute();
    if (this.cut) this.powerOff();
    else if (this.resetWanted) this.resetByWatchdog();
    return working;
  }

  idle() {
    const { clock } = this.chip;
    if (clock.nanos - this.elapsed() > AHEAD_NS) return false;
    clock.tick(Math.min(clock.nanosToNextAlarm || IDLE_NS, IDLE_NS));
    return true;
  }

  execute() {
    const { clock } = this.chip;
    this.processor.run(
      LOOK,
      CYCLES_PER_TICK,
      (cycles) => clock.tick(cycles * CYCLE_NS),
      () => this.resetWanted || this.cut,
    );
  }

  // -- figures --

  counters() {
    return {
      powered: this.powered,
      instructions: this.processor.instructions,
      nanoseconds: Math.round(this.chip.clock.nanos),
      resets: this.resets,
      flash: { ...this.flashFile.counters },
      uart: { ...this.uartCounters, waiting: this.uart.arriving.length, baud: Math.round(this.uart.baud) },
      usb: { ...this.usbCounters },
      stack: this.stack.measure(this.chip),
    };
  }
}
