"""Builds the native kernels where a compiler is there; everything else stands in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

SOURCES = "sab_agents/kernels/native_backend/src"

setup(
    ext_modules=[
        Extension(
            "sab_agents.kernels.native_backend._native",
            sources=sorted(glob(f"{SOURCES}/*.cpp")),
            depends=sorted(glob(f"{SOURCES}/*.h")),
            language="c++",
            # Of fast-math only what changes no result but the rounding of a·b + c.
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-pthread",
                "-fno-math-errno",
                "-fno-trapping-math",
                "-ffp-contract=fast",
            ],
            extra_link_args=["-pthread"],
            # GCC and Clang only: without them, or where the build fails, plain torch serves.
            optional=True,
        )
    ]
)
