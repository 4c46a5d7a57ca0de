// The USB serial port of the board, seen from the host: it appears when the firmware has been
// enumerated and disappears at a reset and when the power goes.
import { USBCDC } from 'rp2040js';

export class UsbSerial {
  /** `counters`: {received, sent}, as the board counts. `events`: {up, data}. */
  constructor(chip, counters, events) {
    this.counters = counters;
    this.controller = chip.usbCtrl;
    this.waiting = []; // pieces from the host
    this.room = 0; // bytes that the firmware is ready to receive
    this.device = new USBCDC(chip.usbCtrl);
    this.device.onDeviceConnected = events.up;
    this.device.onSerialData = (data) => {
      counters.sent += data.length;
      events.data(Buffer.from(data));
    };
    // rp2040js would send an empty packet, and the firmware would be busy with those.
    this.controller.onEndpointRead = (endpoint, size) => {
      if (endpoint !== this.device.outEndpoint) return;
      this.room = size;
      this.feed();
    };
  }

  /** Bytes of the host. The board takes them as fast as its firmware reads. */
  deliver(data) {
    this.waiting.push(data);
    this.feed();
  }

  /** One packet, if there are bytes for it and the firmware is ready. */
  feed() {
    if (!this.room || !this.waiting.length) return;
    const piece = this.waiting[0];
    const packet = piece.subarray(0, this.room);
    if (packet.length < piece.length) this.waiting[0] = piece.subarray(packet.length);
    else this.waiting.shift();
    this.room = 0;
    this.counters.received += packet.length;
    this.controller.endpointReadDone(this.device.outEndpoint, Uint8Array.from(packet));
  }
}
