"""Faster drop-ins for plain code that is there too.

Nothing outside knows more of them than `create_app`'s one call. PLUGVAULT_SPEED=off in the
environment turns all of them off; the test suite passes either way.
"""

import os

ENABLED = os.environ.get("PLUGVAULT_SPEED", "on") != "off"
