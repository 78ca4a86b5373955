"""Builds the native kernel if there is a compiler; everything else stands in pyproject.toml."""

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
            # Hidden, so that two builds in one process share nothing; of fast-math only what changes no result but the
            # rounding of a·b + c.
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-pthread",
                "-fvisibility=hidden",
                "-fno-math-errno",
                "-fno-trapping-math",
                "-ffp-contract=fast",
            ],
            extra_link_args=["-pthread"],
            # GCC and Clang only: without them, or if the build fails, the library computes in plain torch.
            optional=True,
        )
    ]
)
