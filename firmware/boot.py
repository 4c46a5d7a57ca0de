"""Runs before main.py: it collects garbage early, so that a small heap does not fragment, finishes
a switch to new files (`switch`), and lets the board's owner hold main.py back by Ctrl-C or a pin
(`evcc.ports.board`)."""

import gc
import sys

held = False
# On a computer's larger heap a collection after each 16 KiB would take most of the time.
if hasattr(gc, "mem_alloc"):  # MicroPython; CPython's threshold counts objects
    gc.threshold(max(16384, (gc.mem_alloc() + gc.mem_free()) // 16))
if sys.platform in ("rp2", "esp32", "pyboard"):
    try:
        import switch

        switch.finish()  # before the first import: a part of the module's files may be old
    except ImportError:
        pass  # the files were copied by hand
    try:
        from evcc.ports import board

        held = board.is_held()
    except ImportError as error:  # without the module there is nothing to hold back
        print("boot.py:", error)
