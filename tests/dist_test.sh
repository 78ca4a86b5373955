#!/bin/sh
# Installs one built package alone in an empty environment outside the repository and uses it as a stranger would.
# Usage: dist_test.sh PYTHON CONSTRAINTS PACKAGE
set -eu
constraints=$(realpath "$2")
package=$(realpath "$3")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$1" -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --constraint "$constraints" torch
venv/bin/pip install --quiet --disable-pip-version-check --constraint "$constraints" "$package"
venv/bin/python -c 'import sab_agents; print(*sab_agents.__all__)'
venv/bin/sab-agents train configs/recall.yaml --steps 20 --out run
venv/bin/sab-agents evaluate run --length 50 100
venv/bin/sab-agents train --env SAB/MemoryChain-v0 --steps 2048 --out agent
venv/bin/sab-agents watch agent
case "$package" in *.tar.gz)
    # Once more where no compiler is found: it still installs, and plain torch serves.
    CC=/nonexistent CXX=/nonexistent venv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir \
        --force-reinstall --no-deps "$package"
    venv/bin/python -c 'import torch; from sab_agents.kernels import kernel_in_use as kernel
assert kernel("cpu", torch.float32) == "torch", kernel("cpu", torch.float32)'
    venv/bin/sab-agents train recall --steps 20 --out run_without_compiler 2> said
    grep -q 'native kernel was not built' said
esac
