"""Compiles the fused kernels for a GPU that need not be there: `python -m tests.kernels.compile_triton`.

Triton's interpreter takes much that its compiler refuses. What is checked here is that both kernels become code for a
processor, in float32 with few rows a program and in bfloat16 with many, and that the latter use tensor cores; each for
reads as the paper's and for reads that know age, are sharp, have a floor and enter through a gate, ĥ in the memory.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sab_agents.kernels.triton_backend import backward, forward, sizes
from sab_agents.kernels.triton_backend.scores import SCORES

PROCESSORS, CAPABILITY = 132, 90  # of an H100 or H200

NOT_STORED = {
    **{"starts": "*u8", "cuts": "*u8", "write_slot": "*i64", "versions": "*i64", "extents": "*i32", "table": "*i32"},
    "first_ages": "*i64",
    **dict.fromkeys(("slot_scores", "cell", "query", "scores"), "*fp32"),
    **dict.fromkeys(("grad_cell", "grad_versions", "grad_states", "grad_keys", "grad_vector"), "*fp32"),
    **{"scale": "fp32", "T": "i32", "B": "i32", "S": "i32", "HELD": "i32"},
}
"""The types of arguments that are not stored in the dtype of the gates."""


def compiled(kernel: Any, stored: str, constants: dict[str, Any], warps: int) -> str:
    """The assembly of a kernel whose arguments are stored as "*fp32" or "*bf16"."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else NOT_STORED.get(name, stored) for name in names}
    given = {(names.index(name),): value for name, value in constants.items() if name in names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=given)
    options = {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": True}
    assembly: str = triton.compile(source, target=GPUTarget("cuda", CAPABILITY, 32), options=options).asm["ptx"]
    return assembly


def main() -> None:
    count = 0
    for (stored, mlp, batch), beyond in product((("*fp32", True, 64), ("*bf16", False, 4096)), (False, True)):
        size = sizes.blocks(batch, 128, 32, 100, 6, PROCESSORS)
        constants = {
            **{"H": 128, "A": 32, "Q": 32 + 129 * beyond, "READS": 6, "KEEP": True, "CREDIT": True},
            **{"AGE": 64 * beyond, "GATE": beyond, "APART": beyond, "GAIN": 1.0},
            **{"FLOOR": 0.1 * beyond, "SHARPNESS": 0.5 * beyond},
            **{"SCORE": SCORES.index("mlp" if mlp else "dot"), "VECTOR": mlp},
            **{"ROWS": size.rows, "WIDE": size.wide, "NARROW": size.narrow, "PLACES": size.places, "RANKS": size.ranks},
            **{"SLOTS": size.slots, "GATE_TERMS": size.gate_terms, "TERMS": size.terms, "DOT": size.dot},
            "DOT_TYPE": tl.bfloat16 if stored == "*bf16" else tl.float32,
        }
        if not mlp:
            constants |= {"score_weight": None, "grad_vector": None}
        if not beyond:
            constants |= {"age_weight": None, "gate_weight": None, "first_ages": None}
        for kernel in (forward.forward, backward.backward):
            assembly = compiled(kernel, stored, constants, size.warps)
            assert ("mma" in assembly) == size.dot, f"{kernel}: tensor cores are for many rows a program in bfloat16"
            count += 1
    print(f"{count} kernels compiled for capability {CAPABILITY}")


if __name__ == "__main__":
    main()
