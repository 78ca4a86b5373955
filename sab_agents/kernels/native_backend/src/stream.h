// A stream's steps and windows: which slot a step writes to, and what each slot must carry to be replayed. The same is
// computed in torch by sab_agents/streaming/{writing,window,contexts,statistics}.py; names and shapes stand there.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "arguments.h"

namespace sab {

inline size_t floats(int64_t count) { return static_cast<size_t>(count) * sizeof(float); }

inline bool within(int64_t value, int64_t low, int64_t end) { return value >= low && value < end; }

struct TakenRow {
    const Take& of;
    const int64_t row;
    const int64_t H = of.size, S = of.slots, R = of.reads;
    const int64_t now = of.time * of.rows + row;
    const bool start = of.start != nullptr && of.start[row] != 0;
    const int64_t step = start ? 1 : of.state.step[row] + 1;

    // The slot that is written to; out of range where what was planned is.
    int64_t slot() const {
        if (of.chosen != nullptr) return of.chosen[row];
        if (step % of.write_every != 0 || (of.novel != nullptr && of.novel[row] == 0)) return -1;
        const int64_t next = of.taken[row];
        return within(next, 0, of.width) ? of.order[row * of.width + next] : S;
    }

    void run(int64_t write_slot) {
        if (start) clear();
        record(write_slot);
        const State& state = of.state;
        std::memcpy(state.h + row * H, of.output + row * 2 * H, floats(H));
        std::memcpy(state.c + row * H, of.new_c + row * H, floats(H));
        state.step[row] = step;
        if (of.chosen == nullptr) of.taken[row] += write_slot >= 0;
        if (write_slot < 0) return;
        std::memcpy(state.memory + (row * S + write_slot) * H, of.output + row * 2 * H, floats(H));
        state.filled[row * S + write_slot] = 1;
        state.written_at[row * S + write_slot] = step - 1;
    }

    void clear() {
        const State& state = of.state;
        std::memset(state.h + row * H, 0, floats(H));
        std::memset(state.c + row * H, 0, floats(H));
        std::memset(state.memory + row * S * H, 0, floats(S * H));
        std::memset(state.filled + row * S, 0, static_cast<size_t>(S));
        std::fill_n(state.written_at + row * S, S, 0);
    }

    void record(int64_t write_slot) {
        const Window& to = of.window;
        const auto bytes = static_cast<size_t>(of.bytes);
        if (bytes > 0) std::memcpy(to.observation + now * of.bytes, of.observation + row * of.bytes, bytes);
        to.start[now] = start;
        to.cut[now] = (step - 1) % of.bptt_steps == 0;
        to.step[now] = step;
        std::memcpy(to.h_before + now * H, of.state.h + row * H, floats(H));
        std::memcpy(to.c_before + now * H, of.state.c + row * H, floats(H));
        std::memcpy(to.h + now * H, of.output + row * 2 * H, floats(H));
        std::memcpy(to.weight + now * R, of.weight + row * R, floats(R));
        for (int64_t i = 0; i < R; ++i) {
            const int64_t slot = of.read_slot[row * R + i];
            to.read_slot[now * R + i] = slot;
            to.read_step[now * R + i] = of.state.written_at[row * S + std::max<int64_t>(slot, 0)];
        }
        to.write_slot[now] = write_slot;
    }
};

// False, and nothing done, where a slot is out of range.
inline bool take_step(const Take& of) {
    std::vector<int64_t> slots(static_cast<size_t>(of.rows));
    for (int64_t row = 0; row < of.rows; ++row) {
        slots[static_cast<size_t>(row)] = TakenRow{of, row}.slot();
        if (!within(slots[static_cast<size_t>(row)], -1, of.slots)) return false;
    }
    for (int64_t row = 0; row < of.rows; ++row) TakenRow{of, row}.run(slots[static_cast<size_t>(row)]);
    return true;
}

// Both sorts are stable: of equals the older goes first, and of empty slots the one that stands first.
inline void order_slots(const Order& of) {
    const int64_t S = of.slots;
    std::vector<int64_t> slots(static_cast<size_t>(S));
    std::vector<float> keys(static_cast<size_t>(S));
    for (int64_t row = 0; row < of.rows; ++row) {
        const uint8_t* filled = of.filled + row * S;
        const int64_t* written_at = of.written_at + row * S;
        std::iota(slots.begin(), slots.end(), 0);
        std::stable_sort(slots.begin(), slots.end(), [&](int64_t one, int64_t other) {
            return (filled[one] ? written_at[one] : -1) < (filled[other] ? written_at[other] : -1);
        });
        if (of.key != nullptr) {
            std::copy_n(of.key + row * S, S, keys.begin());
            for (int64_t i = S - of.spared; i < S; ++i)
                keys[static_cast<size_t>(slots[static_cast<size_t>(i)])] = std::numeric_limits<float>::infinity();
            for (int64_t s = 0; s < S; ++s)
                if (!filled[s]) keys[static_cast<size_t>(s)] = -std::numeric_limits<float>::infinity();
            std::stable_sort(slots.begin(), slots.end(), [&](int64_t one, int64_t other) {
                const float a = keys[static_cast<size_t>(one)], b = keys[static_cast<size_t>(other)];
                return a < b || (std::isnan(b) && !std::isnan(a));  // as torch sorts
            });
        }
        std::copy_n(slots.begin(), of.width, of.order + row * of.width);
    }
}

// One row of a window that ends.
struct AdvancedRow {
    const Advance& of;
    const int64_t row;
    const int64_t T = of.length, B = of.rows, H = of.size, S = of.slots, R = of.reads, L = of.bptt_steps, U = L * R;
    int64_t last_start = -1;
    std::vector<int64_t> number, first, newest;  // of steps; of pieces; of slots, as in `contexts.py`
    std::vector<uint8_t> kept;

    int64_t at(int64_t t) const { return t * B + row; }

    // Whether every index of the window is in range.
    bool sound() const {
        for (int64_t t = 0; t < T; ++t) {
            if (!within(of.window.write_slot[at(t)], -1, S)) return false;
            for (int64_t i = at(t) * R; i < (at(t) + 1) * R; ++i) {
                const int64_t slot = of.window.read_slot[i];
                if (!within(slot, -1, S) || (slot >= 0 && of.window.read_step[i] >= of.window.step[at(t)]))
                    return false;
            }
        }
        for (int64_t i = row * S; i < (row + 1) * S; ++i)
            if (!within(of.contexts.piece[i], 0, S)) return false;
        return true;
    }

    void run() {
        cut();
        const size_t slots = static_cast<size_t>(S);
        newest.assign(slots, -1);
        for (int64_t t = 0; t < T; ++t)
            if (of.window.write_slot[at(t)] >= 0) newest[static_cast<size_t>(of.window.write_slot[at(t)])] = t;
        kept.assign(slots, 0);
        for (size_t s = 0; s < slots; ++s)
            kept[s] = of.filled[static_cast<size_t>(row * S) + s] && last_start < 0 && newest[s] < 0;
        remember();
        count();
    }

    void cut() {
        for (int64_t t = 0; t < T; ++t) {
            const bool start = of.window.start[at(t)] != 0;
            if (start) last_start = t;
            if (t == 0 || start || of.window.cut[at(t)] != 0) first.push_back(t);
            number.push_back(static_cast<int64_t>(first.size()) - 1);
        }
        first.push_back(T);
    }

    // The pieces that wrote a slot that is held take the places that no older one needs.
    void remember() {
        std::vector<int64_t> place(first.size(), -1);  // of a piece: −1 not needed, −2 needed
        std::vector<uint8_t> occupied(static_cast<size_t>(S), 0);
        for (int64_t s = 0; s < S; ++s) {
            if (fresh(s)) place[piece_of(s)] = -2;
            if (kept[static_cast<size_t>(s)]) occupied[static_cast<size_t>(of.contexts.piece[row * S + s])] = 1;
        }
        size_t free = 0;
        for (size_t n = 0; n < place.size(); ++n) {
            if (place[n] != -2) continue;
            while (occupied[free]) ++free;
            place[n] = static_cast<int64_t>(free++);
            Piece{*this, first[n], first[n + 1] - first[n], row * S + place[n]}.store();
        }
        for (int64_t s = 0; s < S; ++s)
            if (fresh(s)) {
                of.contexts.piece[row * S + s] = place[piece_of(s)];
                of.contexts.offset[row * S + s] = newest[static_cast<size_t>(s)] - first[piece_of(s)];
            }
    }

    bool fresh(int64_t s) const {
        const auto slot = static_cast<size_t>(s);
        return of.state.filled[row * S + s] && !kept[slot] && newest[slot] >= 0;
    }

    size_t piece_of(int64_t s) const {
        return static_cast<size_t>(number[static_cast<size_t>(newest[static_cast<size_t>(s)])]);
    }

    struct Piece {
        const AdvancedRow& row;
        const int64_t first, length, to;  // to: its place
        const Advance& of = row.of;
        const int64_t H = row.H, R = row.R, L = row.L, U = row.U;

        void store() {
            const auto bytes = static_cast<size_t>(of.bytes);
            for (int64_t o = 0; o < L && bytes > 0; ++o) {
                uint8_t* seen = of.contexts.observation + (to * L + o) * of.bytes;
                if (o < length) std::memcpy(seen, of.window.observation + row.at(first + o) * of.bytes, bytes);
                else std::memset(seen, 0, bytes);
            }
            std::memcpy(of.contexts.h + to * H, of.window.h_before + row.at(first) * H, floats(H));
            std::memcpy(of.contexts.c + to * H, of.window.c_before + row.at(first) * H, floats(H));
            for (int64_t o = 0; o < L; ++o)
                for (int64_t r = 0; r < R; ++r) store_read(o, r);
            for (int64_t o = 0; o < L; ++o) of.contexts.target[to * L + o] = target(o);
        }

        void store_read(int64_t o, int64_t r) {
            const int64_t u = o * R + r, place = to * U + u, t = first + o;
            const int64_t began = of.window.step[row.at(first)] - 1;
            bool used = false;
            if (o < length) {
                const int64_t from = row.at(t) * R + r;
                of.contexts.slot[place] = of.window.read_slot[from];
                of.contexts.written_at[place] = of.window.read_step[from];
                used = of.contexts.slot[place] >= 0 && of.contexts.written_at[place] < began;
                for (int64_t v = to * U; used && v < place; ++v)
                    used = !(of.contexts.used[v] && of.contexts.written_at[v] == of.contexts.written_at[place]);
            }
            of.contexts.used[place] = used;
            if (!used) {
                of.contexts.slot[place] = of.contexts.written_at[place] = 0;
                std::memset(of.contexts.value + place * H, 0, floats(H));
                return;
            }
            // The version that was read: the window's own step of that age, or else the starting memory's slot.
            const int64_t own = t - (of.window.step[row.at(t)] - 1 - of.contexts.written_at[place]);
            const float* version = own >= 0 ? of.window.h + row.at(own) * H
                                            : of.memory + (row.row * row.S + of.contexts.slot[place]) * H;
            std::memcpy(of.contexts.value + place * H, version, floats(H));
        }

        // Where step o writes in a replay's memory.
        int64_t target(int64_t o) const {
            const int64_t slot = o < length ? of.window.write_slot[row.at(first + o)] : -1;
            if (slot < 0) return -1;
            for (int64_t u = 0; u < U; ++u)
                if (of.contexts.used[to * U + u] && of.contexts.slot[to * U + u] == slot) return u;
            int64_t earliest = 0;
            while (of.window.write_slot[row.at(first + earliest)] != slot) ++earliest;
            return U + earliest;
        }
    };

    void count() {
        const double decay = *of.decay;
        const auto fading = static_cast<float>(std::pow(decay, static_cast<double>(T)));
        for (int64_t s = 0; s < S; ++s) {
            const float fade = kept[static_cast<size_t>(s)] ? fading : 0.0f;
            of.usage[row * S + s] *= fade;
            of.credit[row * S + s] = (of.credit[row * S + s] + of.reached[row * S + s]) * fade;
        }
        // A read counts for what it read: not for what was written over that since, nor for another episode's.
        for (int64_t t = std::max<int64_t>(last_start, 0); t < T; ++t) {
            const auto faded = static_cast<float>(std::pow(decay, static_cast<double>(T - 1 - t)));
            for (int64_t i = at(t) * R; i < (at(t) + 1) * R; ++i) {
                const int64_t slot = of.window.read_slot[i];
                if (slot >= 0 && of.state.written_at[row * S + slot] == of.window.read_step[i])
                    of.usage[row * S + slot] += of.window.weight[i] * faded;
            }
        }
    }
};

// False, and nothing done, where an index is out of range.
inline bool advance_window(const Advance& of) {
    for (int64_t row = 0; row < of.rows; ++row)
        if (!AdvancedRow{of, row}.sound()) return false;
    for (int64_t row = 0; row < of.rows; ++row) AdvancedRow{of, row}.run();
    return true;
}

}  // namespace sab
