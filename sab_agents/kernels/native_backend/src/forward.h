// The forward scan of a range of rows, GROUP at a time, each group through the whole sequence.
//
// Where no read enters h, the recurrence does not wait for reads: it runs AHEAD steps ahead. Queries and keys of all of
// them are made together; then each row reads for all of them, STEPS at a time, so that its keys are loaded from the
// slower caches once. If there are threads enough, one thread runs the recurrence and another one reads, as far as the
// first has come.

constexpr int64_t GROUP = 16;  // rows that share one pass over the packed weights
constexpr int64_t AHEAD = 4 * STEPS;
static_assert(AHEAD >= LANES, "the keys of a block of the memory take the place of those of AHEAD steps");

// Rows of the largest group, if they are split over threads as evenly as it goes.
inline int64_t most_together(int64_t rows, int64_t threads) {
    const int64_t parts = threads < rows ? threads : rows, each = (rows + parts - 1) / parts;
    return each < GROUP ? each : GROUP;
}

// The weights (Q, H) of all linear functions of ĥ that a read takes, one after the other; copied to `room` if need be.
inline const float* joined_weights(const Recurrence& of, int64_t A, int64_t H, float* room) {
    if (room == nullptr) return of.query_weight;
    const auto bytes = [H](int64_t rows) { return static_cast<size_t>(rows * H) * sizeof(float); };
    std::memcpy(room, of.query_weight, bytes(A));
    if (of.ages()) std::memcpy(room + A * H, of.age_weight, bytes(1));
    if (of.gated()) std::memcpy(room + (of.attended(A, H) - H) * H, of.gate_weight, bytes(H));
    return room;
}

inline int64_t joined_size(const Recurrence& of, int64_t A, int64_t H) {
    return of.attended(A, H) == A ? 0 : of.attended(A, H) * H;
}

struct ForwardWeights {  // packed once, shared by all threads
    float *hh, *key, *query, *joined = nullptr;
    int64_t used;

    ForwardWeights(const Forward& of, float* base) {
        Carver carver{base};
        hh = carver.floats(packed_size(of.size, 4 * of.size));
        key = carver.floats(packed_size(of.size, of.attention));
        query = carver.floats(packed_size(of.size, of.recurrence.attended(of.attention, of.size)));
        const int64_t room = joined_size(of.recurrence, of.attention, of.size);
        if (room > 0) joined = carver.floats(room);
        used = carver.used;
    }
};

template <class SCORE>
struct ForwardScratch {  // of one thread
    float *recurrent, *attended, *new_keys, *before, *queries, *query_room, *slot_scores, *rough;
    float *slot_keys, *slot_prepared, *slot_empty;
    int64_t* slot_versions;
    int32_t* slot_born;
    const float** read;  // the versions that a step read
    int64_t used;

    ForwardScratch(const Forward& of, float* base) {
        Carver carver{base};
        const int64_t rows = most_together(of.rows, of.threads);
        recurrent = carver.floats(rows * padded(4 * of.size));
        const int64_t Q = of.recurrence.attended(of.attention, of.size);
        attended = carver.floats(AHEAD * rows * padded(Q));
        const int64_t keys = AHEAD * rows;  // of a block of the memory or of all rows' steps
        new_keys = carver.floats(keys * padded(of.attention));
        before = carver.floats(rows * of.size);
        queries = carver.floats(STEPS * Q);
        query_room = carver.floats(STEPS * SCORE::ROOM * of.attention);
        slot_scores = carver.floats(STEPS * round_up(of.slots, LANES));
        rough = carver.floats(round_up(of.slots, LANES));
        slot_keys = carver.floats(rows * Slots::keys_size(of.slots, of.attention));
        slot_prepared = SCORE::PREPARES ? carver.floats(rows * Slots::keys_size(of.slots, of.attention)) : nullptr;
        slot_empty = carver.floats(rows * round_up(of.slots, LANES));
        slot_versions = carver.integers(rows * of.slots);
        slot_born = carver.short_integers(rows * round_up(of.slots, LANES));
        read = reinterpret_cast<const float**>(carver.integers(of.reads));
        used = carver.used;
    }
};

template <class SCORE>
struct ForwardGroup {
    const Forward& of;
    const ForwardWeights weights;
    const ForwardScratch<SCORE> scratch;
    const int64_t first, count;  // rows
    const int64_t T = of.steps, B = of.rows, H = of.size, A = of.attention, R = of.reads;
    const int64_t Q = of.recurrence.attended(A, H), gate = Q - H;  // gate: where it begins among the Q
    const float* gates = of.gates();
    float* const states = of.states();
    const bool entering = of.recurrence.enters(of.gain);
    Slots slots[GROUP];

    void run() {
        start_cells();
        start_reads();
        in_turns([this](int64_t t, int64_t n) {
            advance(t, n);
            reads(t, n);
        });
        keep_cells();
    }

    // The two halves of `run` where no read enters h, for two threads.
    void run_cells(Progress& progress) {
        start_cells();
        in_turns([this, &progress](int64_t t, int64_t n) {
            advance(t, n);
            progress.reach(t + n);
        });
        keep_cells();
    }

    void run_reads(const Progress& progress) {
        start_reads();
        in_turns([this, &progress](int64_t t, int64_t n) {
            progress.await(t + n);
            reads(t, n);
        });
    }

    template <class Function>
    void in_turns(const Function& some_steps) const {
        const int64_t ahead = entering ? 1 : AHEAD;
        for (int64_t t = 0; t < T; t += ahead) some_steps(t, T - t < ahead ? T - t : ahead);
    }

    void start_cells() const {
        for (int64_t r = 0; r < count; ++r)
            std::memcpy(of.tape.cell + at(0, r) * H, of.c + (first + r) * H, static_cast<size_t>(H) * sizeof(float));
    }

    void keep_cells() const {
        const size_t bytes = static_cast<size_t>(count * H) * sizeof(float);
        std::memcpy(of.tape.last_cell + first * H, of.tape.cell + taped(T, 0) * H, bytes);
    }

    void start_reads() {
        for (int64_t r = 0; r < count; ++r) {
            start_row(r);
            hold_memory(r);
        }
    }

    // Places in the arrays of steps and of versions; `keep` is the tape's stride in steps.
    int64_t taped(int64_t t, int64_t r) const { return of.keep * t * B + first + r; }
    int64_t at(int64_t t, int64_t r) const { return t * B + first + r; }
    int64_t version(int64_t t) const { return of.held + t; }
    // ĥ, (count, H): where nothing enters h, that is h, and there of every step.
    const float* outputs(int64_t t) const { return entering ? of.tape.output + taped(t, 0) * H : states + at(t, 0) * H; }

    void start_row(int64_t r) {
        slots[r].attention = A;
        slots[r].keys = scratch.slot_keys + r * Slots::keys_size(of.slots, A);
        if (SCORE::PREPARES) slots[r].prepared = scratch.slot_prepared + r * Slots::keys_size(of.slots, A);
        slots[r].empty = scratch.slot_empty + r * round_up(of.slots, LANES);
        slots[r].versions = scratch.slot_versions + r * of.slots;
        slots[r].born = scratch.slot_born + r * round_up(of.slots, LANES);
        slots[r].age_scale = of.age_scale;
        if (of.recurrence.ages()) slots[r].begin_times(of.slots);
    }

    // The slots of the starting memory are the first versions.
    void hold_memory(int64_t r) {
        const float* memory = of.memory + (first + r) * of.held * H;
        for (int64_t slot = 0; slot < of.held; slot += LANES) {
            const int64_t some = of.held - slot < LANES ? of.held - slot : LANES;
            bool any = false;
            for (int64_t i = slot; i < slot + some; ++i) any |= holds(i, r);
            if (!any) continue;
            product(memory + slot * H, H, some, H, A, weights.key, scratch.new_keys);
            slots[r].template write_block<SCORE>(slot, some, scratch.new_keys, padded(A));
            for (int64_t i = slot; i < slot + some; ++i)
                if (holds(i, r)) slots[r].fill(i, i, born(i, r));
        }
    }

    int32_t born(int64_t slot, int64_t r) const {
        if (of.step == nullptr) return 0;
        return born_before(of.step[first + r] - of.written_at[(first + r) * of.held + slot] - 1);
    }

    bool holds(int64_t slot, int64_t r) const { return of.filled[(first + r) * of.held + slot] != 0; }

    void advance(int64_t t, int64_t n) {
        for (int64_t u = 0; u < n; ++u) advance(t + u);
    }

    void reads(int64_t t, int64_t n) {
        const bool written = any_written(t, n);
        if (written && !entering) make_keys(t, n);
        bool any = written && n > 1;  // of a memory that was empty, what is written is read
        for (int64_t r = 0; r < count; ++r) any |= slots[r].extent > 0;
        if (any) products(outputs(t), n, Q, weights.query, scratch.attended);
        for (int64_t r = 0; r < count; ++r)
            for (int64_t u = 0, end; u < n; u = end) {  // an episode's steps
                for (end = u + 1; end < n && end < u + STEPS && of.start[at(t + end, r)] == 0;) ++end;
                read_and_write(t, u, end, r, any);
                for (int64_t i = u; i < end; ++i) sum_up(t + i, r);
            }
        if (written && entering) {
            make_keys(t, n);
            for (int64_t r = 0; r < count; ++r) write(t, 0, r);
        }
    }

    // The cell; and all that is known of h and of what is stored before anything is read.
    void advance(int64_t t) {
        recur(t);
        const auto bytes = static_cast<size_t>(H) * sizeof(float);
        for (int64_t r = 0; r < count; ++r) {
            const int64_t now = taped(t, r);
            cell_forward(H, gates + at(t, r) * 4 * H, scratch.recurrent + r * padded(4 * H), of.start[at(t, r)] != 0,
                         of.tape.cell + now * H, of.tape.gates + now * 4 * H, of.tape.cell + (now + of.keep * B) * H,
                         of.tape.output + now * H);
            if (!entering) std::memcpy(states + at(t, r) * H, of.tape.output + now * H, bytes);
            if (of.apart) std::memcpy(of.tape.hidden + at(t, r) * H, of.tape.output + now * H, bytes);
        }
    }

    // The products with a packed matrix of these rows of n steps from `from` on; to (n, count, padded(columns)).
    void products(const float* from, int64_t n, int64_t columns, const float* packed, float* to) const {
        if (count == B) return product(from, H, n * count, H, columns, packed, to);
        for (int64_t u = 0; u < n; ++u)
            product(from + u * B * H, H, count, H, columns, packed, to + u * count * padded(columns));
    }

    bool any_written(int64_t t, int64_t n) const {
        bool any = false;
        for (int64_t u = 0; u < n; ++u)
            for (int64_t r = 0; r < count; ++r) any |= of.write_slot[at(t + u, r)] >= 0;
        return any;
    }

    void make_keys(int64_t t, int64_t n) const {
        products(of.tape.hidden + at(t, 0) * H, n, A, weights.key, scratch.new_keys);
    }

    // The recurrent part of the gates: zeros for rows that start an episode, of which the last are not computed.
    void recur(int64_t t) {
        int64_t following = count;
        while (following > 0 && of.start[at(t, following - 1)] != 0) --following;
        if (following > 0)
            product(hidden_before(t), H, following, H, 4 * H, weights.hh, scratch.recurrent, (t & 1) != 0);
        const int64_t stride = padded(4 * H);
        std::memset(scratch.recurrent + following * stride, 0,
                    static_cast<size_t>((count - following) * stride) * sizeof(float));
    }

    // h of the step before, (count, H), zeros for the rows that start an episode.
    const float* hidden_before(int64_t t) const {
        const float* before = t == 0 ? of.h + first * H : states + at(t - 1, 0) * H;
        bool any = false;
        for (int64_t r = 0; r < count; ++r) any |= of.start[at(t, r)] != 0;
        if (!any) return before;
        for (int64_t r = 0; r < count; ++r)
            for (int64_t j = 0; j < H; ++j) scratch.before[r * H + j] = of.start[at(t, r)] ? 0.0f : before[r * H + j];
        return scratch.before;
    }

    // Steps t + from … t + end of a row, at most STEPS, of which the first alone may start an episode. If they are scored
    // together, a slot that is written is scored again for the steps after it. `any`: there is something to read, perhaps
    // in other rows.
    void read_and_write(int64_t t, int64_t from, int64_t end, int64_t r, bool any) {
        Slots& held = slots[r];
        if (of.start[at(t + from, r)] != 0) held.clear();
        Query queries[STEPS];
        const int64_t n = end - from;
        for (int64_t i = 0; any && i < n; ++i) queries[i] = ask(t, from + i, i, r);
        const bool together = held.extent >= SCORE::TOGETHER;
        if (together) score(held, 0, held.blocks(), queries, 0, n);
        for (int64_t i = 0; i < n; ++i) {
            if (!together) score(held, 0, held.blocks(), queries, i, i + 1);
            read(t + from + i, i, r, queries[i]);
            if (entering) continue;
            const int64_t before = held.extent, slot = write(t, from + i, r);
            if (together && slot >= 0)
                score(held, (slot < before ? slot : before) / LANES, slot / LANES + 1, queries, i + 1, n);
        }
    }

    // Scores, queries and the rest of one of at most STEPS steps are the i-th in their room.
    float* scores(int64_t i) const { return scratch.slot_scores + i * round_up(of.slots, LANES); }

    void score(const Slots& held, int64_t from, int64_t to, const Query* queries, int64_t i, int64_t end) const {
        if (from >= to || i >= end) return;
        const int64_t stride = scores(1) - scores(0);
        if (many(held, R)) SCORE::template score<true>(held, from, to, queries + i, end - i, scores(i), stride);
        else SCORE::template score<false>(held, from, to, queries + i, end - i, scores(i), stride);
    }

    // The linear functions of ĥ that a read takes: on the tape if that has this step.
    float* attended(int64_t t, int64_t i, int64_t r) const {
        return of.keep || entering ? of.tape.query + taped(t, r) * Q : scratch.queries + i * Q;
    }

    Query ask(int64_t t, int64_t u, int64_t i, int64_t r) const {
        float* const query = attended(t + u, i, r);
        const float* raw = scratch.attended + (u * count + r) * padded(Q);
        for (int64_t a = 0; a < A; ++a) query[a] = raw[a] + of.recurrence.query_bias[a];
        if (of.recurrence.ages()) query[A] = raw[A] + *of.recurrence.age_bias;
        if (of.recurrence.gated())
            for (int64_t j = 0; j < H; j += LANES)
                store(query + gate + j, sigmoid(load(raw + gate + j, H - j) + load(of.recurrence.gate_bias + j, H - j)),
                      H - j);
        float* const room = scratch.query_room + i * SCORE::ROOM * A;
        return SCORE::ask(A, query, of.recurrence.score_weight, room, of.slots >= MANY);
    }

    void read(int64_t t, int64_t i, int64_t r, const Query& query) {
        const int64_t now = at(t, r);
        const Slots& held = slots[r];
        Ranking best{of.tape.scores + taped(t, r) * R, of.tape.versions + now * R, R};
        const float rate = held.extent > 0 && of.recurrence.ages() ? attended(t, i, r)[A] : 0.0f;
        if (many(held, R)) {
            const auto exact = [&](int64_t slot) {
                const int64_t block = slot / LANES;
                if (query.margin > 0.0f) SCORE::template score<false>(held, block, block + 1, &query, 1, scores(i), 0);
                if (of.recurrence.ages()) held.subtract_ages(t, rate, scores(i), slot, slot + LANES);
            };
            rank_many(held, t, rate, scores(i), query.margin, scratch.rough, exact, best);
        } else {
            if (held.extent > 0 && of.recurrence.ages()) held.subtract_ages(t, rate, scores(i));
            rank_slots(held, scores(i), best);
        }
        weigh(best, Weighing(of), of.tape.weights + now * R);
        for (int64_t k = 0; k < best.count; ++k) {
            const int64_t version = best.versions[k];
            prefetch(of.version_of(version, first + r), H);
            // Of a large memory few slots are ever read: only their keys are left for the backward pass.
            if (version < of.held && of.keep) held.read_key(version, taped_key(version, r));
        }
    }

    // s = Σ weight · m and, where it enters, h = ĥ + g · s
    void sum_up(int64_t t, int64_t r) {
        const int64_t* versions = of.tape.versions + at(t, r) * R;
        const float* weight = of.tape.weights + at(t, r) * R;
        const int64_t filled = filled_ranks(versions, R);
        for (int64_t i = 0; i < filled; ++i) scratch.read[i] = of.version_of(versions[i], first + r);
        float* summary = of.tape.summary + at(t, r) * H;
        const float* output = outputs(t) + r * H;
        float* state = states + at(t, r) * H;
        const float* opened = of.recurrence.gated() && filled > 0 ? of.tape.query + taped(t, r) * Q + gate : nullptr;
        const Vec gain = broadcast(static_cast<float>(of.gain));
        for (int64_t j = 0; j < H; j += LANES) {
            Vec s{};
            for (int64_t i = 0; i < filled; ++i)
                s += broadcast(weight[i]) * load(scratch.read[i] + j, H - j);
            store(summary + j, s, H - j);
            if (!entering) continue;
            store(state + j, load(output + j, H - j) + (opened == nullptr ? gain : load(opened + j, H - j)) * s, H - j);
        }
        if (float* const to = of.output_of(t, first + r)) leave(t, r, of.parts, to);
        if (of.last_output != nullptr && t == T - 1) leave(t, r, of.parts, of.last_output + (first + r) * of.parts * H);
    }

    // The first `parts` of h, s by its gate, and what is stored.
    void leave(int64_t t, int64_t r, int64_t parts, float* to) const {
        const float *h = states + at(t, r) * H, *summary = of.tape.summary + at(t, r) * H;
        const auto bytes = static_cast<size_t>(H) * sizeof(float);
        std::memcpy(to, h, bytes);
        if (parts == 1) return;
        if (!of.recurrence.gates_output()) std::memcpy(to + H, summary, bytes);
        else
            for (int64_t j = 0; j < H; j += LANES)
                store(to + H + j, output_gate(of.recurrence, h, j, H - j) * load(summary + j, H - j), H - j);
        if (parts == 3) std::memcpy(to + 2 * H, of.tape.hidden + at(t, r) * H, bytes);
    }

    // What a step stores goes to its slot, which is returned; −1 for none.
    int64_t write(int64_t t, int64_t u, int64_t r) {
        const int64_t slot = of.write_slot[at(t + u, r)];
        if (slot < 0) return slot;
        const float* key = scratch.new_keys + (u * count + r) * padded(A);
        slots[r].template write<SCORE>(slot, version(t + u), static_cast<int32_t>(t + u), key);
        if (of.keep) std::memcpy(taped_key(version(t + u), r), key, static_cast<size_t>(A) * sizeof(float));
        return slot;
    }

    float* taped_key(int64_t version, int64_t r) const { return of.tape.keys + (version * B + first + r) * A; }
};

int64_t forward_shared_size(const Forward& of) { return ForwardWeights(of, nullptr).used; }

int64_t forward_scratch_size(const Forward& of) {
    int64_t floats = 0;
    Scores::with(of.score, [&](auto kind) { floats = ForwardScratch<decltype(kind)>(of, nullptr).used; });
    return floats;
}

void forward_prepare(const Forward& of, float* shared) {
    const ForwardWeights weights(of, shared);
    const int64_t H = of.size;
    pack(of.recurrence.weight_hh, H, 4 * H, 1, H, weights.hh);
    pack(of.recurrence.key_weight, H, of.attention, 1, H, weights.key);
    const int64_t Q = of.recurrence.attended(of.attention, H);
    pack(joined_weights(of.recurrence, of.attention, H, weights.joined), H, Q, 1, H, weights.query);
}

template <class SCORE>
ForwardGroup<SCORE> forward_group(const Forward& of, const float* shared, float* scratch, int64_t first, int64_t count) {
    return {of, ForwardWeights(of, const_cast<float*>(shared)), ForwardScratch<SCORE>(of, scratch), first, count};
}

void forward_run(const Forward& of, const float* shared, float* scratch, int64_t first, int64_t last) {
    Scores::with(of.score, [&](auto kind) {
        for (int64_t row = first; row < last; row += GROUP)
            forward_group<decltype(kind)>(of, shared, scratch, row, last - row < GROUP ? last - row : GROUP).run();
    });
}

void forward_cells(const Forward& of, const float* shared, float* scratch, int64_t row, Progress& progress) {
    Scores::with(of.score, [&](auto kind) {
        forward_group<decltype(kind)>(of, shared, scratch, row, 1).run_cells(progress);
    });
}

void forward_reads(const Forward& of, const float* shared, float* scratch, int64_t row, const Progress& progress) {
    Scores::with(of.score, [&](auto kind) {
        forward_group<decltype(kind)>(of, shared, scratch, row, 1).run_reads(progress);
    });
}
