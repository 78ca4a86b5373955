// From the gradient of a memory to the pieces that are replayed for it, and what they are replayed with; see
// sab_agents/streaming/rerun.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "arguments.h"
#include "stream.h"

namespace sab {

inline float norm(const float* x, int64_t count) {
    float parts[8] = {};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int64_t j = 0; j < 8; ++j) parts[j] += x[i + j] * x[i + j];
    for (; i < count; ++i) parts[0] += x[i] * x[i];
    return std::sqrt(((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7])));
}

// How many pieces there are; −1 where an index is out of range.
inline int64_t select_pieces(Select& of) {
    const int64_t S = of.slots;
    for (int64_t i = 0; i < of.rows * S; ++i)
        if (!within(of.contexts.piece[i], 0, S) || !within(of.contexts.offset[i], 0, of.steps)) return -1;
    int64_t found = 0;
    of.steps_reached = 0;
    std::vector<float> reached(static_cast<size_t>(S));
    std::vector<int64_t> column(static_cast<size_t>(S));  // of a place for pieces
    for (int64_t row = 0; row < of.rows; ++row) {
        const int64_t base = row * S;
        int64_t newest = -1;
        for (int64_t s = 0; s < S; ++s) {
            float& here = reached[static_cast<size_t>(s)];
            here = of.filled[base + s] ? norm(of.gradient + (base + s) * of.size, of.size) : 0.0f;
            if (here > 0.0f && (newest < 0 || of.written_at[base + s] > of.written_at[base + newest])) newest = s;
        }
        column.assign(static_cast<size_t>(S), -1);
        for (int64_t s = 0; s < S; ++s) {
            float& here = reached[static_cast<size_t>(s)];
            const bool other = newest >= 0 && of.contexts.piece[base + s] != of.contexts.piece[base + newest];
            if (of.newest && other) here = 0.0f;
            if (here > 0.0f) column[static_cast<size_t>(of.contexts.piece[base + s])] = 0;
        }
        for (int64_t place = 0; place < S; ++place) {
            if (column[static_cast<size_t>(place)] < 0) continue;
            of.row[found] = row;
            of.place[found] = place;
            column[static_cast<size_t>(place)] = found++;
        }
        for (int64_t s = 0; s < S; ++s) {
            const bool chosen = reached[static_cast<size_t>(s)] > 0.0f;
            of.column[base + s] = chosen ? column[static_cast<size_t>(of.contexts.piece[base + s])] : -1;
            if (!chosen) continue;
            const float here = reached[static_cast<size_t>(s)];
            if (of.norm != nullptr) of.norm[base + s] += here;
            if (of.credit != nullptr && of.kept[base + s] != 0 && std::isfinite(here)) of.credit[base + s] += here;
            of.steps_reached = std::max<int64_t>(of.steps_reached, of.contexts.offset[base + s] + 1);
        }
    }
    return found;
}

inline void gather_pieces(const Gather& of) {
    const int64_t M = of.count, L = of.steps, H = of.size, U = L * of.reads;
    const auto bytes = static_cast<size_t>(of.bytes);
    std::memset(of.grad_stored, 0, floats(L * M * H));
    std::memset(of.start, 0, static_cast<size_t>(L * M));
    std::memset(of.cut, 0, static_cast<size_t>(L * M));
    std::memset(of.cut, 1, static_cast<size_t>(M));
    for (int64_t m = 0; m < M; ++m) {
        const int64_t from = of.row[m] * of.slots + of.place[m];
        std::memcpy(of.h + m * H, of.contexts.h + from * H, floats(H));
        std::memcpy(of.c + m * H, of.contexts.c + from * H, floats(H));
        std::memcpy(of.value + m * U * H, of.contexts.value + from * U * H, floats(U * H));
        std::memcpy(of.used + m * U, of.contexts.used + from * U, static_cast<size_t>(U));
        std::memcpy(of.written_at + m * U, of.contexts.written_at + from * U, static_cast<size_t>(U) * sizeof(int64_t));
        for (int64_t o = 0; o < L; ++o) {
            of.target[o * M + m] = of.contexts.target[from * L + o];
            const uint8_t* seen = of.contexts.observation + (from * L + o) * of.bytes;
            if (bytes > 0) std::memcpy(of.observation + (o * M + m) * of.bytes, seen, bytes);
        }
    }
    for (int64_t i = 0; i < of.rows * of.slots; ++i) {
        if (of.column[i] < 0) continue;
        std::memcpy(of.grad_stored + (of.contexts.offset[i] * M + of.column[i]) * H, of.gradient + i * H, floats(H));
        of.step[of.column[i]] = of.slot_written_at[i] - of.contexts.offset[i];
        std::memset(of.gradient + i * H, 0, floats(H));
    }
}

}  // namespace sab
