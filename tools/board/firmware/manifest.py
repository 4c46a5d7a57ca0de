# pyright: reportUndefinedVariable=false
# Frozen into the board's firmware: the port's own start of the file system, and asyncio.
freeze("$(PORT_DIR)/modules")  # noqa: F821
include("$(MPY_DIR)/extmod/asyncio")  # noqa: F821
