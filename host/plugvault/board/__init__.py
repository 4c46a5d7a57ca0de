"""A development board: found, flashed with the module, and used over its link.

    ports           the serial ports of this computer, and the boards behind them
    own_ports       the ports of boards that are known, and of the emulated one
    repl            a board's MicroPython prompt, over mpremote's transport
    facts           what a board is, and whether the module can run on it
    bytecode        the module's files, compiled for the board
    copying         the files of a board: what differs, and the switch to the new ones
    erasure         a board's car, erased with its keys
    configuration   config.json, and the pins of each kind of board
    firmware        MicroPython as a file: the check of a UF2 or .bin
    boot_drive      the drive onto which a UF2 is copied
    espressif       esptool, which writes a .bin
    micropython     MicroPython onto a board, from the check to its prompt
    folder          what this computer keeps of its boards: tokens, keys, ports
    flash           all of it in order
    reporter        the progress and the questions of a run
    bench           a flashed board on its link, with its vault
    simulated       the emulated Pico

`plugvault flash` and `plugvault board` are the commands; `host/docs/board.md` the document.
"""
