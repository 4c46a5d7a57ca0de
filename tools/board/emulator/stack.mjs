// The low-water mark of the C stack: the unused part is filled with a pattern, and the lowest word
// that has changed since is how deep the stack went.
const PATTERN = 0x5afe57ac;
const RAM_START = 0x20000000;

export class Stack {
  /** `limits`: {stack_top, stack_bottom}, addresses as the firmware's build wrote them. */
  constructor(limits) {
    this.top = Number(limits.stack_top);
    this.bottom = Number(limits.stack_bottom);
  }

  word(chip, address) {
    return new DataView(chip.sram.buffer, address - RAM_START, 4);
  }

  /** Start a new measurement. */
  mark(chip) {
    const used = chip.core.SPmain;
    const end = used > this.bottom && used <= this.top ? used : this.top;
    for (let address = this.bottom; address < end; address += 4) {
      this.word(chip, address).setUint32(0, PATTERN, true);
    }
  }

  /** Bytes: the whole stack, its use now, and the most that was used since `mark`. */
  measure(chip) {
    let address = this.bottom;
    while (address < this.top && this.word(chip, address).getUint32(0, true) === PATTERN) address += 4;
    return {
      size: this.top - this.bottom,
      now: this.top - chip.core.SPmain,
      deepest: this.top - address,
    };
  }
}
