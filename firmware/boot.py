"""Runs before main.py: finish a switch to new files, and collect garbage early, so that a small
heap does not fragment."""

import gc
import sys

if sys.platform not in ("linux", "darwin"):
    import switch

    switch.finish()

if hasattr(gc, "mem_alloc"):  # MicroPython; CPython's threshold counts objects
    gc.threshold(16384)
