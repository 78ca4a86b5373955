// A stream's steps and windows: which slot a step writes to, and what each slot must carry to be replayed. The same is
// computed in torch by sab_agents/kernels/torch_backend/{stream,contexts}.py; names and shapes stand there.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "arguments.h"

namespace sab {

inline size_t floats(int64_t count) { return static_cast<size_t>(count) * sizeof(float); }

inline bool within(int64_t value, int64_t low, int64_t end) { return value >= low && value < end; }

// Which slot a write takes when all are filled.
enum Eviction : int64_t { OLDEST, LEAST_USED, LEAST_CREDITED, MOST_REDUNDANT, RESERVOIR, LEAST_USEFUL };

// The rules that go by usage and credit never take the newest S / PART slots, the one that goes by usefulness takes only
// the oldest S / PART.
constexpr int64_t PART = 4;

// Where the rule that goes by usefulness divides by ages, it counts them up to LONG_AGO · S.
constexpr int64_t LONG_AGO = 16;

// A number from 0 to 1 for each pair (splitmix64 of Steele, Lea & Flood 2014).
inline double uniform(int64_t seed, int64_t count) {
    uint64_t z = (static_cast<uint64_t>(seed) << 32) + static_cast<uint64_t>(count) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// One row of a step that is taken.
struct TakenRow {
    const Take& of;
    const int64_t row;
    const int64_t H = of.size, S = of.slots, R = of.reads;
    const int64_t now = of.time * of.rows + row;
    const bool start = of.start != nullptr && of.start[row] != 0;
    const int64_t step = start ? 1 : of.state.step[row] + 1;
    uint8_t* const filled = of.state.filled + row * S;
    int64_t* const written_at = of.state.written_at + row * S;
    float* const usage = of.state.usage + row * S;
    float* const credit = of.state.credit + row * S;

    bool sound() const {
        for (int64_t i = row * R; i < (row + 1) * R; ++i)
            if (!within(of.read_slot[i], -1, S)) return false;
        return of.near == nullptr || within(of.near[row], -1, S);
    }

    void run() {
        if (start) clear();
        count_reads();
        const bool again = of.near != nullptr && of.near[row] >= 0;  // a slot holds nearly the same
        int64_t slot = -1;
        if (step % of.write_every == 0) slot = !again ? next_slot() : of.refresh ? of.near[row] : -1;
        if (of.window.step != nullptr) record(slot);
        const Carried& state = of.state;
        std::memcpy(state.h + row * H, of.output + row * 2 * H, floats(H));
        std::memcpy(state.c + row * H, of.new_c + row * H, floats(H));
        state.step[row] = step;
        if (slot >= 0) write(slot, again);
    }

    const float* stored() const { return of.stored == nullptr ? of.output + row * 2 * H : of.stored + row * H; }

    void clear() {
        const Carried& state = of.state;
        std::memset(state.h + row * H, 0, floats(H));
        std::memset(state.c + row * H, 0, floats(H));
        std::memset(state.memory + row * S * H, 0, floats(S * H));
        std::memset(filled, 0, static_cast<size_t>(S));
        std::fill_n(written_at, S, 0);
        std::fill_n(usage, S, 0.0f);
        std::fill_n(credit, S, 0.0f);
        state.writes[row] = 0;
        std::fill_n(of.kept + row * S, S, uint8_t{0});
    }

    void count_reads() {
        const auto decay = static_cast<float>(of.decay);
        for (int64_t s = 0; s < S; ++s) usage[s] *= decay, credit[s] *= decay;
        for (int64_t i = row * R; i < (row + 1) * R; ++i)
            if (of.read_slot[i] >= 0) usage[of.read_slot[i]] += of.weight[i];
    }

    // The slot that this write takes; −1 where the reservoir does not keep it.
    int64_t next_slot() const {
        int64_t &writes = of.state.writes[row], &draws = of.state.draws[row];
        if (of.eviction == RESERVOIR || of.eviction == LEAST_USEFUL) ++writes, ++draws;
        if (of.eviction == RESERVOIR) {
            if (writes <= S) return writes - 1;
            const auto slot = static_cast<int64_t>(uniform(of.seed, draws) * static_cast<double>(writes));
            return slot < S ? slot : -1;
        }
        for (int64_t s = 0; s < S; ++s)
            if (!filled[s]) return s;
        if (of.eviction == OLDEST) return std::min_element(written_at, written_at + S) - written_at;
        if (of.eviction == MOST_REDUNDANT) return most_redundant(NONE);
        if (of.eviction == LEAST_USEFUL) return most_redundant(first_protected(S - S / PART));
        return least(of.eviction == LEAST_USED ? usage : credit);
    }

    static constexpr int64_t NONE = std::numeric_limits<int64_t>::max();

    // The time from which on slots are protected: they are the newest.
    int64_t first_protected(int64_t spared) const {
        if (spared == 0 || spared == S) return NONE;
        std::vector<int64_t> times(written_at, written_at + S);
        std::nth_element(times.begin(), times.end() - spared, times.end());
        return times[static_cast<size_t>(S - spared)];
    }

    // The slot of the smallest key, the older of equals; never one of the newest. A key that is NaN counts as infinite.
    int64_t least(const float* key) const {
        const int64_t newest = first_protected(S / PART);
        int64_t best = -1;
        float least = 0.0f;
        for (int64_t s = 0; s < S; ++s) {
            if (written_at[s] >= newest) continue;
            const float here = std::isnan(key[s]) ? std::numeric_limits<float>::infinity() : key[s];
            if (best < 0 || here < least || (here == least && written_at[s] < written_at[best])) best = s, least = here;
        }
        return best;
    }

    // The slot that lies closest to a newer one, the older of equals, of those written before `newest`. Where the rule
    // goes by usefulness, slots whose reads did harm go first, and in an episode longer than all before it together, which
    // gives no sign of an end, the closest for its age does.
    int64_t most_redundant(int64_t newest) const {
        const bool endless = 2 * of.state.writes[row] > of.state.draws[row];
        int64_t best = -1;
        float least = 0.0f;
        for (int64_t s = 0; s < S; ++s) {
            if (written_at[s] >= newest) continue;
            float nearest = std::numeric_limits<float>::infinity();
            for (int64_t other = 0; other < S; ++other)
                if (written_at[other] > written_at[s]) nearest = std::min(nearest, *distance(s, other));
            if (of.eviction == LEAST_USEFUL) {
                const auto age = static_cast<float>(std::min(step - 1 - written_at[s], LONG_AGO * S));
                nearest = credit[s] < 0.0f ? credit[s] : endless ? nearest / age : nearest;
            }
            if (best < 0 || nearest < least || (nearest == least && written_at[s] < written_at[best]))
                best = s, least = nearest;
        }
        return best;
    }

    float* distance(int64_t s, int64_t other) const { return of.distance + (row * S + s) * S + other; }

    // Squared, from slot s to every other.
    void measure(int64_t s) const {
        const float* memory = of.state.memory + row * S * H;
        for (int64_t other = 0; other < S; ++other) {
            float parts[8] = {};
            const float *one = memory + s * H, *two = memory + other * H;
            int64_t i = 0;
            for (; i + 8 <= H; i += 8)
                for (int64_t j = 0; j < 8; ++j) parts[j] += (one[i + j] - two[i + j]) * (one[i + j] - two[i + j]);
            for (; i < H; ++i) parts[0] += (one[i] - two[i]) * (one[i] - two[i]);
            *distance(s, other) = *distance(other, s) = ((parts[0] + parts[1]) + (parts[2] + parts[3])) +
                                                       ((parts[4] + parts[5]) + (parts[6] + parts[7]));
        }
    }

    // A slot that is refreshed keeps its statistics.
    void write(int64_t slot, bool again) const {
        std::memcpy(of.state.memory + (row * S + slot) * H, stored(), floats(H));
        filled[slot] = 1;
        written_at[slot] = step - 1;
        if (!again) usage[slot] = credit[slot] = 0.0f;
        of.kept[row * S + slot] = 0;
        if (of.distance != nullptr) measure(slot);
    }

    void record(int64_t slot) const {
        const Window& to = of.window;
        const auto bytes = static_cast<size_t>(of.bytes);
        if (bytes > 0) std::memcpy(to.observation + now * of.bytes, of.observation + row * of.bytes, bytes);
        to.start[now] = start;
        to.cut[now] = (step - 1) % of.bptt_steps == 0;
        to.step[now] = step;
        std::memcpy(to.h_before + now * H, of.state.h + row * H, floats(H));
        std::memcpy(to.c_before + now * H, of.state.c + row * H, floats(H));
        std::memcpy(to.h + now * H, stored(), floats(H));
        std::memcpy(to.weight + now * R, of.weight + row * R, floats(R));
        for (int64_t i = 0; i < R; ++i) {
            const int64_t read = of.read_slot[row * R + i];
            to.read_slot[now * R + i] = read;
            to.read_step[now * R + i] = written_at[std::max<int64_t>(read, 0)];
        }
        to.write_slot[now] = slot;
    }
};

// False, and nothing done, where a slot is out of range.
inline bool take_step(const Take& of) {
    for (int64_t row = 0; row < of.rows; ++row)
        if (!TakenRow{of, row}.sound()) return false;
    if (of.distance != nullptr && *of.known == 0) {
        for (int64_t row = 0; row < of.rows; ++row)
            for (int64_t s = 0; s < of.slots; ++s) TakenRow{of, row}.measure(s);
        *of.known = 1;
    }
    for (int64_t row = 0; row < of.rows; ++row) TakenRow{of, row}.run();
    return true;
}

// One row of a window that ends.
struct AdvancedRow {
    const Advance& of;
    const int64_t row;
    const int64_t T = of.length, B = of.rows, H = of.size, S = of.slots, R = of.reads, L = of.bptt_steps, U = L * R;
    std::vector<int64_t> number, first, newest;  // of steps; of pieces; of slots, as in `contexts.py`
    uint8_t* const kept = of.kept + row * of.slots;

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
        remember();
        std::memcpy(kept, of.state.filled + row * S, slots);
    }

    void cut() {
        for (int64_t t = 0; t < T; ++t) {
            const bool start = of.window.start[at(t)] != 0;
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
            if (kept[s]) occupied[static_cast<size_t>(of.contexts.piece[row * S + s])] = 1;
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
        return of.state.filled[row * S + s] && !kept[s] && newest[slot] >= 0;
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
};

// False, and nothing done, where an index is out of range.
inline bool advance_window(const Advance& of) {
    for (int64_t row = 0; row < of.rows; ++row)
        if (!AdvancedRow{of, row}.sound()) return false;
    for (int64_t row = 0; row < of.rows; ++row) AdvancedRow{of, row}.run();
    return true;
}

}  // namespace sab
