// The backward scan of a range of rows, from the last step to the first. What reaches the weights is left in gradients
// of gates, keys and queries, to be summed by one product each outside.

struct BackwardWeights {
    float *hh, *key, *query, *joined = nullptr;
    uint8_t* read;  // (S0, B), by `mark_read`
    int64_t used;

    BackwardWeights(const Backward& of, float* base) {
        Carver carver{base};
        hh = carver.floats(packed_size(4 * of.size, of.size));
        key = carver.floats(packed_size(of.attention, of.size));
        query = carver.floats(packed_size(of.recurrence.attended(of.attention, of.size), of.size));
        const int64_t room = joined_size(of.recurrence, of.attention, of.size);
        if (room > 0) joined = carver.floats(room);
        read = reinterpret_cast<uint8_t*>(carver.floats(round_up(of.held * of.rows, 4) / 4));
        used = carver.used;
    }
};

struct BackwardScratch {
    float *sent, *value_grads, *score_grads, *grad_summary, *log_ages;
    const float** keys;  // of the slots whose score has a gradient, as the next two
    float **grad_keys, *scored;
    int64_t used;

    BackwardScratch(const Backward& of, float* base) {
        Carver carver{base};
        sent = carver.floats(GROUP * padded(of.size));
        value_grads = carver.floats(of.reads);
        score_grads = carver.floats(of.reads);
        grad_summary = carver.floats(of.size);
        log_ages = carver.floats(round_up(of.reads, LANES));
        keys = reinterpret_cast<const float**>(carver.integers(of.reads));
        grad_keys = reinterpret_cast<float**>(carver.integers(of.reads));
        scored = carver.floats(of.reads);
        used = carver.used;
    }
};

template <class SCORE>
struct BackwardGroup {
    const Backward& of;
    const BackwardWeights weights;
    const BackwardScratch scratch;
    const int64_t first, count;
    const int64_t T = of.steps, B = of.rows, H = of.size, A = of.attention, R = of.reads;
    const int64_t Q = of.recurrence.attended(A, H), gate = Q - H;  // gate: where it begins among the Q
    const bool remembering = of.grad_memory != nullptr;  // otherwise nothing is sent to the starting memory's states

    void run() {
        begin();
        for (int64_t t = T - 1; t >= 0; --t) step(t);
        if (remembering)
            for (int64_t slot = 0; slot < of.held; ++slot) memory(slot);
    }

    // Everything that gradients are added to: what came from outside, or zeros.
    void begin() {
        for (int64_t version = 0; version < of.held + T; ++version) {
            if (version < of.held && !is_read(version)) continue;
            clear(of.sent.keys + at(version, 0) * A, count * A);
            if (version < of.held && remembering) clear(of.sent.states + at(version, 0) * H, count * H);
        }
        for (int64_t t = 0; t < T; ++t) {
            clear(of.sent.query + at(t, 0) * Q, count * Q);
            for (int64_t r = 0; r < count; ++r) {
                copy(of.row_of(of.grad_hidden, of.hidden_stride, t, first + r), 0, grad_of_h(t, r));
                if (of.apart) copy(of.row_of(of.grad_stored, of.stored_stride, t, first + r), 0, grad_state(t, r));
            }
        }
        for (int64_t r = 0; r < count; ++r)
            copy(of.grad_last_cell, (first + r) * H, of.sent.cell + (first + r) * H);
        if (of.recurrence.score_weight != nullptr) clear(of.sent.score_weight + first * A, count * A);
        if (of.recurrence.gates_output()) clear(of.sent.output_gate + first * 2 * H, count * 2 * H);
    }

    // Whether any row of the group read this slot of the starting memory.
    bool is_read(int64_t slot) const {
        for (int64_t r = 0; r < count; ++r)
            if (weights.read[at(slot, r)] != 0) return true;
        return false;
    }

    static void clear(float* to, int64_t floats) { std::memset(to, 0, static_cast<size_t>(floats) * sizeof(float)); }

    // H floats; zeros from null.
    void copy(const float* from, int64_t place, float* to) const {
        if (from == nullptr) return clear(to, H);
        std::memcpy(to, from + place, static_cast<size_t>(H) * sizeof(float));
    }

    int64_t at(int64_t t, int64_t r) const { return t * B + first + r; }
    int64_t version(int64_t t) const { return of.held + t; }
    // What a step's version receives, and what its h does: the same where h is what is stored.
    float* grad_state(int64_t t, int64_t r) const { return of.sent.states + at(version(t), r) * H; }
    float* grad_of_h(int64_t t, int64_t r) const { return of.apart ? of.sent.state + at(t, r) * H : grad_state(t, r); }

    void step(int64_t t) {
        if (t > 0)
            for (int64_t r = 0; r < count; ++r) expect_read(t - 1, r);
        if (of.credit && any_written(t)) {
            send(of.sent.keys + at(version(t), 0) * A, A, weights.key);
            for (int64_t r = 0; r < count; ++r) receive(grad_state(t, r), r);
        }
        bool any_read = false;
        for (int64_t r = 0; r < count; ++r) {
            const int64_t filled = filled_ranks(of.tape.versions + at(t, r) * R, R);
            if (filled > 0) read(t, r, filled);
            any_read |= filled > 0;
            if (of.apart) add_scaled(grad_state(t, r), 1.0f, grad_of_h(t, r), H);
        }
        if (any_read) {
            send(of.sent.query + at(t, 0) * Q, Q, weights.query);
            for (int64_t r = 0; r < count; ++r) receive(grad_state(t, r), r);
        }
        cell(t);
    }

    bool any_written(int64_t t) const {
        for (int64_t r = 0; r < count; ++r)
            if (of.write_slot[at(t, r)] >= 0) return true;
        return false;
    }

    // Gradients (count, K) times a packed matrix (K, H), into scratch.sent.
    void send(const float* grads, int64_t k, const float* packed) {
        product(grads, k, count, k, H, packed, scratch.sent);
    }

    void receive(float* grad, int64_t r) { add_scaled(grad, 1.0f, scratch.sent + r * padded(H), H); }

    // What `read` will need, from all over the past.
    void expect_read(int64_t t, int64_t r) const {
        const int64_t* versions = of.tape.versions + at(t, r) * R;
        for (int64_t i = 0; i < R && versions[i] >= 0; ++i) {
            const int64_t place = at(versions[i], r);
            prefetch(of.version_of(versions[i], first + r), H);
            prefetch(of.sent.states + place * H, H);
            prefetch(of.tape.keys + place * A, A);
            prefetch(of.sent.keys + place * A, A);
        }
    }

    // The gradient of h and s goes to the slots that were read and, through their scores, to their keys, to the query and
    // to the rate of age; and to the gate.
    void read(int64_t t, int64_t r, int64_t filled) {
        const int64_t now = at(t, r);
        const int64_t* versions = of.tape.versions + now * R;
        float* grad_summary = scratch.grad_summary;
        const float* received = of.row_of(of.grad_summary, of.summary_stride, t, first + r);
        copy(received, 0, grad_summary);
        if (of.recurrence.gates_output() && received != nullptr) enter_output_gate(t, r, grad_summary);
        if (of.recurrence.gated()) open_gate(t, r, grad_summary);
        else add_scaled(grad_summary, static_cast<float>(of.gain), grad_of_h(t, r), H);
        for (int64_t i = 0; i < filled; ++i)
            scratch.value_grads[i] = dot(of.version_of(versions[i], first + r), grad_summary, H);
        score_gradients(of.tape.scores + now * R, filled, R, Weighing(of), scratch.value_grads,
                        dot(of.tape.summary + now * H, grad_summary, H), scratch.score_grads);
        if (of.recurrence.ages()) {
            log_ages(t, r, filled);
            of.sent.query[now * Q + A] = -dot(scratch.score_grads, scratch.log_ages, filled);
        }
        int64_t count = 0;
        for (int64_t i = 0; i < filled; ++i) {
            const float weight = of.tape.weights[now * R + i], grad_score = scratch.score_grads[i];
            const int64_t place = at(versions[i], r);
            const bool credited = of.credit && (remembering || versions[i] >= of.held);
            if (credited && weight != 0.0f) add_scaled(of.sent.states + place * H, weight, grad_summary, H);
            if (grad_score == 0.0f) continue;
            scratch.keys[count] = of.tape.keys + place * A;
            scratch.grad_keys[count] = of.sent.keys + place * A;
            scratch.scored[count++] = grad_score;
        }
        SCORE::backward(A, {count, scratch.scored, scratch.keys, scratch.grad_keys}, of.tape.query + now * Q,
                        of.recurrence.score_weight, of.sent.query + now * Q, of.sent.score_weight + (first + r) * A);
    }

    // The gradient of what left of s goes through the output gate to that of s, to h, and to the gate's weights.
    void enter_output_gate(int64_t t, int64_t r, float* grad_summary) const {
        const int64_t now = at(t, r);
        const float *h = of.states() + now * H, *summary = of.tape.summary + now * H;
        float *grad_h = grad_of_h(t, r), *of_weight = of.sent.output_gate + (first + r) * 2 * H, *of_bias = of_weight + H;
        for (int64_t j = 0; j < H; j += LANES) {
            const int64_t left = H - j;
            const Vec gate = output_gate(of.recurrence, h, j, left), grad = load(grad_summary + j, left);
            const Vec opened = grad * load(summary + j, left) * gate * (1.0f - 0.5f * gate);
            store(grad_summary + j, grad * gate, left);
            store(grad_h + j, load(grad_h + j, left) + opened * load(of.recurrence.output_gate_weight + j, left), left);
            store(of_weight + j, load(of_weight + j, left) + opened * load(h + j, left), left);
            store(of_bias + j, load(of_bias + j, left) + opened, left);
        }
    }

    // The gradient of h goes through the gate to that of s, and to what opened it.
    void open_gate(int64_t t, int64_t r, float* grad_summary) const {
        const int64_t now = at(t, r);
        const float *opened = of.tape.query + now * Q + gate, *summary = of.tape.summary + now * H;
        const float* grad_h = grad_of_h(t, r);
        float* to = of.sent.query + now * Q + gate;
        for (int64_t j = 0; j < H; j += LANES) {
            const int64_t left = H - j;
            const Vec g = load(opened + j, left), grad = load(grad_h + j, left);
            store(grad_summary + j, load(grad_summary + j, left) + g * grad, left);
            store(to + j, grad * load(summary + j, left) * g * (1.0f - g), left);
        }
    }

    int64_t born(int64_t version, int64_t row) const {
        if (version >= of.held) return version - of.held;
        return born_before(of.step[row] - of.written_at[row * of.held + version] - 1);
    }

    // log(1 + age/τ) of each slot that was read.
    void log_ages(int64_t t, int64_t r, int64_t filled) const {
        const int64_t* versions = of.tape.versions + at(t, r) * R;
        const int64_t row = first + r;
        const float each = 1.0f / static_cast<float>(of.age_scale);
        for (int64_t i = 0; i < filled; ++i)
            scratch.log_ages[i] = static_cast<float>(t + of.age_scale - 1 - born(versions[i], row)) * each;
        for (int64_t i = filled; i < round_up(filled, LANES); ++i) scratch.log_ages[i] = 1.0f;
        for (int64_t i = 0; i < filled; i += LANES) store(scratch.log_ages + i, logarithm(load(scratch.log_ages + i)));
    }

    // The gradient of ĥ and c goes to the gates and, where the step is not cut, to the step before.
    void cell(int64_t t) {
        int64_t sending = 0;  // rows up to the last one that is not cut
        for (int64_t r = 0; r < count; ++r) {
            const int64_t now = at(t, r);
            const bool cut = of.cut[now] != 0;
            if (!cut) sending = r + 1;
            cell_backward(H, of.tape.gates + now * 4 * H, of.tape.cell + now * H, of.tape.cell + (now + B) * H,
                          grad_state(t, r), cut, of.sent.gates + now * 4 * H, of.sent.cell + (first + r) * H);
        }
        if (t == 0) clear(of.sent.h + first * H, count * H);
        if (sending == 0) return;
        product(of.sent.gates + at(t, 0) * 4 * H, 4 * H, sending, 4 * H, H, weights.hh, scratch.sent, (t & 1) != 0);
        for (int64_t r = 0; r < count; ++r)
            if (!of.cut[at(t, r)]) receive(t == 0 ? of.sent.h + (first + r) * H : grad_of_h(t - 1, r), r);
    }

    // A slot of the starting memory receives what was sent to it and, through its key, what was sent there.
    void memory(int64_t slot) {
        const bool credited = of.credit && is_read(slot);
        if (credited) send(of.sent.keys + at(slot, 0) * A, A, weights.key);
        for (int64_t r = 0; r < count; ++r) {
            float* to = of.grad_memory + ((first + r) * of.held + slot) * H;
            copy(credited ? of.sent.states : nullptr, at(slot, r) * H, to);
            if (credited) receive(to, r);
        }
    }
};

int64_t backward_shared_size(const Backward& of) { return BackwardWeights(of, nullptr).used; }

int64_t backward_scratch_size(const Backward& of) { return BackwardScratch(of, nullptr).used; }

void backward_prepare(const Backward& of, float* shared) {
    const BackwardWeights weights(of, shared);
    const int64_t H = of.size;
    pack(of.recurrence.weight_hh, 4 * H, H, H, 1, weights.hh);
    pack(of.recurrence.key_weight, of.attention, H, H, 1, weights.key);
    const int64_t Q = of.recurrence.attended(of.attention, H);
    pack(joined_weights(of.recurrence, of.attention, H, weights.joined), Q, H, H, 1, weights.query);
    mark_read(of, weights.read);
}

void backward_run(const Backward& of, const float* shared, float* scratch, int64_t first, int64_t last) {
    const BackwardWeights weights(of, const_cast<float*>(shared));
    Scores::with(of.score, [&](auto kind) {
        for (int64_t row = first; row < last; row += GROUP) {
            const int64_t count = last - row < GROUP ? last - row : GROUP;
            BackwardGroup<decltype(kind)>{of, weights, BackwardScratch(of, scratch), row, count}.run();
        }
    });
}
