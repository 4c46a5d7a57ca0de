// The USB serial port of the board, seen from the host: it appears when the firmware has been
// enumerated and disappears at a reset and when the power goes.
import { USBCDC } from 'rp2040js';

export class UsbSerial {
  /** `counters`: {received, sent}, which outlive a reset, as the board counts. `events`: {up, data}. */
  constructor(chip, counters, events) {
    this.counters = counters;
    this.waiting = []; // pieces from the host
    this.device = new USBCDC(chip.usbCtrl);
    this.device.onDeviceConnected = events.up;
    this.device.onSerialData = (data) => {
      counters.sent += data.length;
      events.data(Buffer.from(data));
    };
  }

  /** Bytes of the host. The board takes them as fast as its firmware reads. */
  deliver(data) {
    this.waiting.push(data);
    this.feed();
  }

  /** Move waiting bytes into the controller; returns whether all are there. */
  feed() {
    const { waiting, device } = this;
    while (waiting.length) {
      const piece = waiting[0];
      let taken = 0;
      while (taken < piece.length && !device.txFIFO.full) device.sendSerialByte(piece[taken++]);
      this.counters.received += taken;
      if (taken < piece.length) {
        waiting[0] = piece.subarray(taken);
        return false;
      }
      waiting.shift();
    }
    return true;
  }
}
