#!/bin/sh
# Builds the native kernel with the address and undefined-behaviour sanitizers in an empty folder, and runs random shapes
# and random calls. Usage: sanitize.sh PYTHON SHAPES CALLS
set -eu
python=$(realpath -s "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
CFLAGS="$flags" CXXFLAGS="$flags" LDFLAGS="$flags" \
    "$python" setup.py --quiet build_ext --build-lib "$folder" --build-temp "$folder/objects"
compiler=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CXX").split()[0])')
preload="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so.6)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1
LD_PRELOAD="$preload" "$python" -m tests.kernels.random_shapes "$folder" "$2"
LD_PRELOAD="$preload" "$python" -m tests.kernels.random_calls "$folder" "$3"
