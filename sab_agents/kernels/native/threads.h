// Splits rows over threads that live as long as one call: nothing is left behind for a fork to miss.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "arguments.h"

namespace sab {

struct Free {
    void operator()(float* buffer) const { std::free(buffer); }
};
using Buffer = std::unique_ptr<float, Free>;

inline Buffer allocate(int64_t floats) {
    const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) + 64) / 64 * 64;
    Buffer buffer(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (!buffer) throw std::bad_alloc();
    return buffer;
}

// Calls work(0) … work(parts − 1) at once; a part that gets no thread is done by this one. `work` must not throw.
template <class Work>
void in_parallel(int64_t parts, const Work& work) {
    std::vector<std::thread> others;
    others.reserve(static_cast<size_t>(parts));
    int64_t part = 1;
    try {
        for (; part < parts; ++part) others.emplace_back(work, part);
    } catch (const std::system_error&) {
        for (; part < parts; ++part) work(part);
    }
    work(0);
    for (std::thread& other : others) other.join();
}

// Runs one entry over all rows, split as evenly as it goes. May throw std::bad_alloc, before any work is done.
template <class Arguments>
void run(const Entry<Arguments>& entry, const Arguments& of) {
    const int64_t parts = of.threads < of.rows ? of.threads : of.rows;
    if (parts < 1) return;
    const int64_t each = (entry.scratch_size(of) + 15) / 16 * 16;
    const Buffer shared = allocate(entry.shared_size(of)), scratch = allocate(parts * each);
    entry.prepare(of, shared.get());
    in_parallel(parts, [&](int64_t part) {
        entry.run(of, shared.get(), scratch.get() + part * each, part * of.rows / parts, (part + 1) * of.rows / parts);
    });
}

}  // namespace sab
