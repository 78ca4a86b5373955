"""`python -m sab_agents` is the `sab-agents` command, as `torchrun -m sab_agents` needs it."""

import sys

from sab_agents.train.cli import main

sys.exit(main())
