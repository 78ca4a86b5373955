"""`python -m sab_agents.train` is the `sab-agents` command."""

import sys

from sab_agents.train.cli import main

sys.exit(main())
