"""Runs before main.py on a board: collect garbage early, so that the heap does not fragment."""

import gc

gc.threshold(16384)
