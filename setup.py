"""Builds the native kernel if there is a compiler; everything else stands in pyproject.toml."""

import os
from concurrent.futures import ThreadPoolExecutor
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = "sab_agents/kernels/native_backend/src"


class BuildSideBySide(build_ext):
    """Compiles the files of an extension side by side, which is what an installation waits for."""

    def build_extensions(self):
        """Builds what is declared."""
        compile_all = self.compiler.compile

        def compile_each(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return [
                    file for files in pool.map(lambda each: compile_all([each], **options), sources) for file in files
                ]

        self.compiler.compile = compile_each
        super().build_extensions()


setup(
    cmdclass={"build_ext": BuildSideBySide},
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
    ],
)
