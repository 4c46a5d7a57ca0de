// node main.mjs BOOTROM SYMBOLS FLASH USB UART: run the board until standard input ends.
//
// USB and UART are the file descriptors of connected sockets: the serial port and the UART. Standard
// input takes one command a line, JSON as {"id": 1, "do": "counters"}; standard output gives an
// answer for each, {"id": 1, …}, and events: {"event": "usb-up"}, "usb-down", "power-on",
// "power-off".
import fs from 'node:fs';
import net from 'node:net';
import readline from 'node:readline';
import { Board } from './board.mjs';

const UART_QUEUE = 4096; // bytes of the host that wait for the line, as in a serial driver
const USB_QUEUE = 16; // pieces
const [bootrom, symbols, flash, usbDescriptor, uartDescriptor] = process.argv.slice(2);
const rom = fs.readFileSync(bootrom);

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n');
const usb = new net.Socket({ fd: Number(usbDescriptor), readable: true, writable: true });
const uart = new net.Socket({ fd: Number(uartDescriptor), readable: true, writable: true });

let sentByUart = []; // bytes of the board, written once in a slice
const board = new Board(
  {
    bootrom: new Uint32Array(new Uint8Array(rom).buffer),
    flash,
    symbols: JSON.parse(fs.readFileSync(symbols, 'utf8')),
  },
  {
    usbUp: () => say({ event: 'usb-up' }),
    usbDown: () => say({ event: 'usb-down' }),
    usbData: (data) => usb.write(data),
    uartData: (byte) => sentByUart.push(byte),
    power: (on) => say({ event: on ? 'power-on' : 'power-off' }),
  },
);

usb.on('data', (data) => {
  if (board.powered) board.usb.deliver(data);
});
uart.on('data', (data) => {
  if (board.powered) board.uart.deliver(data);
  else board.uartCounters.lost += data.length;
});

/** Take no more of the host's bytes than the board can hold. */
function limit() {
  for (const [socket, full] of [
    [uart, board.uart.arriving.length > UART_QUEUE],
    [usb, board.usb.waiting.length > USB_QUEUE],
  ]) {
    if (full && !socket.isPaused()) socket.pause();
    if (!full && socket.isPaused()) socket.resume();
  }
}

const COMMANDS = {
  counters: () => board.counters(),
  'mark-stack': () => board.stack.mark(board.chip),
  'cut-at': ({ operation, part }) => board.flashFile.cutAt(operation, part),
  ground: ({ pin, connected }) => board.ground(pin, connected),
  'power-off': () => board.powerOff(),
  'power-on': () => board.powerOn(),
  reset: () => {
    if (board.powered) board.reset();
  },
};

readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, do: name, ...options } = JSON.parse(line);
    const command = COMMANDS[name];
    say(command ? { id, ...command(options) } : { id, error: `unknown command ${name}` });
  })
  .on('close', () => process.exit(0));

function turn() {
  const wait = board.run();
  if (sentByUart.length) {
    uart.write(Buffer.from(sentByUart));
    sentByUart = [];
  }
  limit();
  if (wait) setTimeout(turn, wait);
  else setImmediate(turn);
}

turn();
