"""Runs before main.py: collect garbage early, so that a small heap does not fragment."""

import gc

if hasattr(gc, "mem_alloc"):  # MicroPython; CPython's threshold counts objects
    gc.threshold(16384)
