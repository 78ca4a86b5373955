"""`python -m sab_agents` is the `sab-agents` command, as `torchrun -m sab_agents` needs it."""

import os
import sys

from sab_agents.train.cli import main

code = main()
if os.environ.get("WORLD_SIZE", "1") != "1":
    # Threads of gloo can abort a process that is being torn down, and torchrun would call finished work failed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
