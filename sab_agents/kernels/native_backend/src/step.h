// One step of one row after another, from weights as they lie: what an agent or a stream does between two inputs. There
// is no tape, and nothing is packed: packing W_hh would cost more than the step. Only the gates are computed for GROUP
// rows at a time, so that W_hh, which may be larger than a cache, is read once for all of them.

template <class SCORE>
struct StepScratch {  // of one row, but for the gates
    float *raw, *bias, *gates, *output, *query, *opened, *keys, *scores, *empty, *best, *weights;
    int64_t *versions, *best_slots;
    int32_t* born;
    int64_t used;

    StepScratch(const Step& of, float* base) {
        Carver carver{base};
        const int64_t H = of.size, A = of.attention;
        raw = carver.floats(GROUP * round_up(4 * H, LANES));
        bias = carver.floats(4 * H);
        gates = carver.floats(4 * H);
        output = carver.floats(H);
        query = carver.floats(round_up(A, LANES));
        opened = of.recurrence.gated() ? carver.floats(H) : nullptr;
        keys = carver.floats(SCORE::step_floats(of.slots, H, A));
        scores = carver.floats(round_up(of.slots, LANES));
        empty = carver.floats(round_up(of.slots, LANES));
        best = carver.floats(of.reads);
        weights = carver.floats(of.reads);
        versions = carver.integers(of.slots);
        best_slots = carver.integers(of.reads);
        born = carver.short_integers(round_up(of.slots, LANES));
        used = carver.used;
    }
};

template <class SCORE>
struct StepRow {
    const Step& of;
    const StepScratch<SCORE> scratch;
    const int64_t row;
    const float* raw;  // (4H) the row's gates, without biases
    const int64_t H = of.size, A = of.attention, S = of.slots, R = of.reads;
    const bool start = of.start != nullptr && of.start[row] != 0;
    const bool whole = of.new_state.h != nullptr;  // the whole new state, not only c and what was read
    const float* memory = of.state.memory + row * S * H;
    // A version is the slot that holds it.
    Slots slots{scratch.keys, nullptr, scratch.empty, scratch.versions, scratch.born, A, of.age_scale};

    void run() {
        cell();
        hold();
        read();
        if (whole) write();
        if (of.stored != nullptr) std::memcpy(of.stored + row * H, stored(), static_cast<size_t>(H) * sizeof(float));
        if (of.near != nullptr) of.near[row] = near();
    }

    const float* stored() const { return of.apart ? scratch.output : of.output + row * 2 * H; }

    void cell() {
        for (int64_t i = 0; i < 4 * H; i += LANES)
            store(scratch.bias + i,
                  load(of.projection.bias_ih + i, 4 * H - i) + load(of.projection.bias_hh + i, 4 * H - i), 4 * H - i);
        cell_forward(H, scratch.bias, raw, start, of.state.c + row * H, scratch.gates, of.new_c + row * H,
                     scratch.output);
    }

    // Slots that are read.
    void hold() {
        if (of.recurrence.ages()) slots.begin_times(S);
        for (int64_t i = 0; i < S; ++i) {
            const bool holds = !start && of.state.filled[row * S + i] != 0;
            if (whole) keep(row * S + i, holds);
            slots.vacate(i);
            if (!holds) continue;
            scratch.versions[i] = i;
            scratch.empty[i] = 0.0f;
            if (of.recurrence.ages())
                scratch.born[i] = born_before(of.state.step[row] - of.state.written_at[row * S + i] - 1);
            slots.extent = i + 1;
        }
        for (int64_t i = S; i < round_up(S, LANES); ++i) scratch.empty[i] = -INFINITY;
    }

    // The new memory before the write: empty slots hold zeros.
    void keep(int64_t place, bool holds) {
        const size_t bytes = static_cast<size_t>(H) * sizeof(float);
        of.new_state.filled[place] = holds;
        of.new_state.written_at[place] = holds ? of.state.written_at[place] : 0;
        if (holds) std::memcpy(of.new_state.memory + place * H, of.state.memory + place * H, bytes);
        else std::memset(of.new_state.memory + place * H, 0, bytes);
    }

    void read() {
        if (slots.extent > 0) score();
        Ranking best{scratch.best, of.read_slot == nullptr ? scratch.best_slots : of.read_slot + row * R, R};
        float* weights = of.weight == nullptr ? scratch.weights : of.weight + row * R;
        rank_slots(slots, scratch.scores, best);
        weigh(best, Weighing(of), weights);
        const float* opened = best.count > 0 ? scratch.opened : nullptr;
        float* h = of.output + row * 2 * H;
        const Vec gain = broadcast(static_cast<float>(of.gain));
        for (int64_t j = 0; j < H; j += LANES) {
            Vec s{};
            for (int64_t i = 0; i < best.count; ++i)
                s += broadcast(weights[i]) * load(memory + best.versions[i] * H + j, H - j);
            store(h + H + j, s, H - j);
            const Vec sum = load(scratch.output + j, H - j) + (opened == nullptr ? gain : load(opened + j, H - j)) * s;
            store(h + j, sum, H - j);
            if (whole) store(of.new_state.h + row * H + j, sum, H - j);
        }
        if (of.recurrence.gates_output())
            for (int64_t j = 0; j < H; j += LANES)
                store(h + H + j, output_gate(of.recurrence, h, j, H - j) * load(h + H + j, H - j), H - j);
    }

    void score() {
        for (int64_t a = 0; a < A; a += LANES) {
            RowProducts found;
            found.add(of.recurrence.query_weight + a * H, A - a, scratch.output, H);
            store(scratch.query + a, found.total() + load(of.recurrence.query_bias + a, A - a));
        }
        SCORE::score_states({memory, of.recurrence.key_weight, S, H}, scratch.query, of.recurrence.score_weight, slots,
                            scratch.scores);
        if (of.recurrence.ages()) {
            const float rate = dot(of.recurrence.age_weight, scratch.output, H) + *of.recurrence.age_bias;
            slots.subtract_ages(0, rate, scratch.scores);
        }
        if (of.recurrence.gated()) gate();
    }

    void gate() {
        for (int64_t j = 0; j < H; j += LANES) {
            RowProducts found;
            found.add(of.recurrence.gate_weight + j * H, H - j, scratch.output, H);
            store(scratch.opened + j, sigmoid(found.total() + load(of.recurrence.gate_bias + j, H - j)), H - j);
        }
    }

    // The slot nearest to what would be stored; −1 if it is farther than novelty · its norm, or there is none.
    int64_t near() const {
        const float* h = stored();
        const float limit = *of.novelty * std::sqrt(dot(h, h, H));
        if (of.last) {
            const int64_t slot = written_last();
            if (slot < 0) return -1;
            Vec apart{};
            for (int64_t j = 0; j < H; j += LANES) {
                const Vec each = load(memory + slot * H + j, H - j) - load(h + j, H - j);
                apart += each * each;
            }
            return std::sqrt(sum(apart)) > limit ? -1 : slot;
        }
        Vec nearest = broadcast(INFINITY);  // squared, in each lane of all blocks
        IntVec from{};                      // the block of each
        for (int64_t i = 0; i < slots.extent; i += LANES) {
            RowProducts found;
            found.add_distances(memory + i * H, S - i, h, H);
            const Vec distance = found.total() - load(scratch.empty + i);
            const IntVec closer = distance < nearest;
            nearest = distance < nearest ? distance : nearest;
            from = (closer & static_cast<int32_t>(i)) | (~closer & from);
        }
        int best = 0;
        for (int lane = 1; lane < LANES; ++lane)
            if (nearest[lane] < nearest[best] || (nearest[lane] == nearest[best] && from[lane] < from[best])) best = lane;
        return slots.extent == 0 || std::sqrt(nearest[best]) > limit ? -1 : from[best] + best;
    }

    // The newest slot; −1 if none is held.
    int64_t written_last() const {
        const int64_t* at = of.state.written_at + row * S;
        int64_t newest = -1;
        for (int64_t i = 0; i < slots.extent; ++i)
            if (of.state.filled[row * S + i] != 0 && (newest < 0 || at[i] > at[newest])) newest = i;
        return newest;
    }

    void write() {
        const int64_t step = start ? 1 : of.state.step[row] + 1;
        of.new_state.step[row] = step;
        if (step % of.write_every != 0) return;
        const int64_t place = row * S + slot_of(step, of.write_every, S);
        std::memcpy(of.new_state.memory + place * H, stored(), static_cast<size_t>(H) * sizeof(float));
        of.new_state.filled[place] = 1;
        of.new_state.written_at[place] = step - 1;
    }
};

// The gates of rows `first` … `last`, without biases, a few gates of all rows after the other.
inline void step_gates(const Step& of, int64_t first, int64_t last, float* raw) {
    const int64_t H = of.size, stride = round_up(4 * H, LANES);
    for (int64_t i = 0; i < 4 * H; i += LANES)
        for (int64_t row = first; row < last; ++row) {
            RowProducts found;
            found.add(of.projection.weight_ih + i * of.input, 4 * H - i, of.x + row * of.input, of.input);
            if (of.start == nullptr || of.start[row] == 0)
                found.add(of.recurrence.weight_hh + i * H, 4 * H - i, of.state.h + row * H, H);
            store(raw + (row - first) * stride + i, found.total());
        }
}

int64_t step_shared_size(const Step&) { return 0; }

int64_t step_scratch_size(const Step& of) {
    int64_t floats = 0;
    Scores::with(of.score, [&](auto kind) { floats = StepScratch<decltype(kind)>(of, nullptr).used; });
    return floats;
}

void step_prepare(const Step&, float*) {}

void step_run(const Step& of, const float*, float* scratch, int64_t first, int64_t last) {
    Scores::with(of.score, [&](auto kind) {
        using Kind = decltype(kind);
        const StepScratch<Kind> room(of, scratch);
        for (int64_t begin = first; begin < last; begin += GROUP) {
            const int64_t end = begin + GROUP < last ? begin + GROUP : last;
            step_gates(of, begin, end, room.raw);
            for (int64_t row = begin; row < end; ++row)
                StepRow<Kind>{of, room, row, room.raw + (row - begin) * round_up(4 * of.size, LANES)}.run();
        }
    });
}
