"""`python -m sab_agents.zoo`."""

from __future__ import annotations

import sys

from sab_agents.zoo import main

if __name__ == "__main__":
    sys.exit(main())
