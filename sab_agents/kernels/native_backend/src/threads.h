// Splits rows over threads.
//
// torch's idle OpenMP threads go on spinning for milliseconds after each of its operations. Threads of our own would
// share the cores with them and lose half their time, so the work goes to the very same threads where torch's OpenMP is
// GNU's. Elsewhere, and in a forked process, where those threads are gone and waiting for them would never end, threads
// are started that live as long as one call.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#endif

#include "kernels.h"

namespace sab {

struct Free {
    void operator()(float* buffer) const { std::free(buffer); }
};
using Buffer = std::unique_ptr<float, Free>;

// In the part of the buffer that can have them: with small pages, the first touch of a large buffer costs more than the
// computation that fills it. Only advice: nothing depends on whether it is taken.
inline void ask_for_large_pages(const void* buffer, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr int64_t page = int64_t{1} << 21;
    const auto begin = reinterpret_cast<int64_t>(buffer);
    const int64_t first = (begin + page - 1) / page * page, last = (begin + bytes) / page * page;
    if (last > first) madvise(reinterpret_cast<void*>(first), static_cast<size_t>(last - first), MADV_HUGEPAGE);
#else
    static_cast<void>(buffer), static_cast<void>(bytes);
#endif
}

constexpr size_t LARGE = size_t{1} << 22;  // bytes from which a buffer is asked to have large pages

inline Buffer allocate(int64_t floats) {
    const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) + 64) / 64 * 64;
    Buffer buffer(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (!buffer) throw std::bad_alloc();
    if (bytes >= LARGE) ask_for_large_pages(buffer.get(), static_cast<int64_t>(bytes));
    return buffer;
}

// `GOMP_parallel`: calls function(data) at once on up to `threads` threads, this one among them.
using Team = void (*)(void (*function)(void*), void* data, unsigned threads, unsigned flags);

inline std::atomic<Team> team{nullptr};

// To be called once torch is loaded: looks for the OpenMP that is there, and loads none.
inline void find_team() {
#if defined(__linux__)
    void* library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return;
    team = reinterpret_cast<Team>(dlsym(library, "GOMP_parallel"));
    pthread_atfork(nullptr, nullptr, [] { team = nullptr; });
#endif
}

// Calls work(0) … work(parts − 1) at once; a part that gets no thread is done by another. `work` must not throw.
template <class Work>
void in_parallel(int64_t parts, const Work& work) {
    struct Shared {
        const Work& work;
        const int64_t parts;
        std::atomic<int64_t> next{0};

        void help() {
            for (int64_t part = next++; part < parts; part = next++) work(part);
        }
    } shared{work, parts};
    const Team with_team = team;
    if (parts < 1) return;
    if (parts == 1) return work(0);
    if (with_team != nullptr)
        return with_team([](void* of) { static_cast<Shared*>(of)->help(); }, &shared, static_cast<unsigned>(parts), 0);
    std::vector<std::thread> others;
    others.reserve(static_cast<size_t>(parts));
    try {
        for (int64_t i = 1; i < parts; ++i) others.emplace_back([&shared] { shared.help(); });
    } catch (const std::system_error&) {  // fewer threads, which do all parts between them
    }
    shared.help();
    for (std::thread& other : others) other.join();
}

// Calls part(0, shared, scratch) … part(parts − 1, …) at once, each with what an entry prepared for all of them and with
// scratch of its own. May throw std::bad_alloc, before any work is done.
template <class Arguments, class Part>
void run_parts(const Entry<Arguments>& entry, const Arguments& of, int64_t parts, const Part& part) {
    const int64_t each = (entry.scratch_size(of) + 15) / 16 * 16;
    const Buffer shared = allocate(entry.shared_size(of)), scratch = allocate(parts * each);
    entry.prepare(of, shared.get());
    in_parallel(parts, [&](int64_t i) { part(i, shared.get(), scratch.get() + i * each); });
}

// Runs one entry over all rows, split as evenly as it goes.
template <class Arguments>
void run(const Entry<Arguments>& entry, const Arguments& of) {
    const int64_t parts = of.threads < of.rows ? of.threads : of.rows;
    if (parts < 1) return;
    run_parts(entry, of, parts, [&](int64_t i, const float* shared, float* scratch) {
        entry.run(of, shared, scratch, i * of.rows / parts, (i + 1) * of.rows / parts);
    });
}

}  // namespace sab
