// Which steps write where, and what the slots hold afterwards: plain loops over integers and whole rows.
#pragma once

#include <algorithm>
#include <cstring>

#include "arguments.h"

namespace sab {

// The slot that the last write of `step` steps went to. Never out of range, whatever count of steps a state holds.
inline int64_t slot_of(int64_t step, int64_t write_every, int64_t slots) {
    const int64_t write = step / write_every - 1;
    return slots == 0 ? write : (write % slots + slots) % slots;
}

// The highest slot that is written to, −1 where none is.
inline int64_t count_steps(const Count& of) {
    int64_t highest = -1;
    for (int64_t i = 0; i < of.steps * of.rows; ++i) {
        const int64_t before = i < of.rows ? of.before[i] : of.step[i - of.rows];
        const int64_t step = of.start != nullptr && of.start[i] ? 1 : before + 1;
        of.step[i] = step;
        of.cut[i] = (step - 1) % of.bptt_steps == 0;
        of.write_slot[i] = step % of.write_every == 0 ? slot_of(step, of.write_every, of.slots) : -1;
        highest = std::max(highest, of.write_slot[i]);
    }
    return highest;
}

// Marks the slots of the starting memory, (S0, B), that any step of a row read: of a large memory, a few.
inline void mark_read(const Backward& of, uint8_t* read) {
    for (int64_t i = 0; i < of.held * of.rows; ++i) read[i] = 0;
    for (int64_t i = 0; i < of.steps * of.rows; ++i) {
        const int64_t* versions = of.tape.versions + i * of.reads;
        for (int64_t k = 0; k < of.reads && versions[k] >= 0; ++k)
            if (versions[k] < of.held) read[versions[k] * of.rows + i % of.rows] = 1;
    }
}

struct RememberedRow {
    const Remember& of;
    const int64_t row;
    int64_t* versions = of.versions + row * of.slots;

    void run() {
        for (int64_t i = 0; i < of.slots; ++i) versions[i] = i < of.held && of.filled[row * of.held + i] ? i : -1;
        for (int64_t t = 0; t < of.steps; ++t) {
            const int64_t now = t * of.rows + row, slot = of.write_slot[now];
            if (of.start[now]) std::fill(versions, versions + of.slots, -1);
            if (slot >= 0) versions[slot] = of.held + t;
        }
        for (int64_t i = 0; i < of.slots; ++i) keep(row * of.slots + i, versions[i]);
    }

    void keep(int64_t place, int64_t version) {
        const size_t bytes = static_cast<size_t>(of.size) * sizeof(float);
        float* to = of.new_memory + place * of.size;
        of.new_filled[place] = version >= 0;
        if (version < 0) {
            of.new_written_at[place] = 0;
            std::memset(to, 0, bytes);
        } else if (version < of.held) {
            of.new_written_at[place] = of.written_at[row * of.held + version];
            std::memcpy(to, of.memory + (row * of.held + version) * of.size, bytes);
        } else {
            const int64_t now = (version - of.held) * of.rows + row;
            of.new_written_at[place] = of.step[now] - 1;
            std::memcpy(to, of.hidden + now * of.stride, bytes);
        }
    }
};

}  // namespace sab
