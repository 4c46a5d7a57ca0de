# pyright: reportUndefinedVariable=false
# Freezes the module into a board's firmware, included beside the port's own manifest: see
# host/docs/board.md.
# boot.py and main.py stay on the file system: they are the board's own.
import json

metadata(version="0.1.0", description="Plug & Charge EV module", license="Apache-2.0")  # noqa: F821
# The build runs a manifest in the manifest's own folder.
with open("package.json", encoding="utf-8") as file:
    names = [source[len("evcc/") :] for _, source in json.load(file)["urls"]]
package("evcc", names, opt=3)  # noqa: F821
