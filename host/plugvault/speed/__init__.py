"""Faster replacements of plain code that is in the package, too.

Only `create_app` calls them, in one place. PLUGVAULT_SPEED=off in the environment turns all of
them off; the test suite passes either way.
"""

import os

ENABLED = os.environ.get("PLUGVAULT_SPEED", "on") != "off"
