"""Runs before main.py: it collects garbage early, so that a small heap does not fragment, finishes
a switch to new files (`switch`), and gives the board's owner a way out: Ctrl-C or a pin holds
main.py back (`evcc.ports.board`)."""

import gc
import sys

held = False
# A board's heap is collected each 16 KiB; in a computer's, that would be most of all work.
if hasattr(gc, "mem_alloc"):  # MicroPython; CPython's threshold counts objects
    gc.threshold(max(16384, (gc.mem_alloc() + gc.mem_free()) // 16))
if sys.platform in ("rp2", "esp32", "pyboard"):
    try:
        import switch

        switch.finish()  # before the first import of the module, which may be half new
    except ImportError:
        pass  # the files were copied by hand
    try:
        from evcc.ports import board

        held = board.is_held()
    except ImportError as error:  # without the module there is nothing to hold back
        print("boot.py:", error)
