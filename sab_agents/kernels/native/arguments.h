// What the native scan is given: one struct per entry, filled from Python's integers in the order of its fields.
//
// Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S0 of them in the starting memory, V = S0 + T
// versions, R = K + 1 slots that a read touches. Every array is contiguous; times(t) is the step's place in the tape.
#pragma once

#include <cstdint>

namespace sab {

struct Forward {
    int64_t threads;
    int64_t steps, rows, size, attention, slots, held, reads;
    int64_t keep;  // 1: the tape has T steps, for a backward pass; 0: it has one, written over and over
    // in
    const float* gates_in;         // (T, B, 4H)
    const float* weight_hh;        // (4H, H)
    const float* key_weight;       // (A, H)
    const float* query_weight;     // (A, H)
    const float* query_bias;       // (A)
    const float* score_weight;     // (A) for "mlp", null for "dot"
    const float* h;                // (B, H)
    const float* c;                // (B, H)
    const float* memory;           // (B, S0, H)
    const uint8_t* start;          // (T, B)
    const int64_t* write_slot;     // (T, B), −1 where nothing is written
    const uint8_t* filled;         // (B, S0)
    // out: the tape
    float* gates;                  // (T, B, 4H) activated, the forget gate 0 at episode starts; may be gates_in
    float* cell;                   // (T + 1, B, H) c before the first step and after each
    float* output;                 // (T, B, H)
    float* query;                  // (T, B, A)
    float* keys;                   // (V, B, A) of the versions that were written; without `keep` (1, B, A)
    float* scores;                 // (T, B, R) falling, −inf where nothing was there to be read
    // out: results
    float* summary;                // (T, B, H)
    float* hidden;                 // (V, B, H) all versions
    int64_t* versions;             // (T, B, R), −1 where nothing was there to be read
    float* weights;                // (T, B, R)
    float* last_cell;              // (B, H) c after the last step
};

struct Backward {
    int64_t threads;
    int64_t steps, rows, size, attention, held, reads;
    int64_t credit;  // whether gradient flows into the memories that were read
    // the gradients of the results, null for zeros; a row of H in every `…_stride` floats
    int64_t grad_hidden_stride, grad_summary_stride;
    const float* grad_hidden;      // (T, B, H) of h
    const float* grad_summary;     // (T, B, H)
    const float* grad_last_cell;   // (B, H)
    const float* weight_hh;
    const float* key_weight;
    const float* query_weight;
    const float* score_weight;
    const uint8_t* cut;            // (T, B)
    const int64_t* write_slot;     // (T, B)
    // the tape, as above
    const float *gates, *cell, *output, *query, *keys, *scores, *summary, *hidden;
    const int64_t* versions;
    const float* weights;
    // out, for the weights' gradients
    float* grad_states;            // (V, B, H)
    float* grad_keys;              // (V, B, A)
    float* grad_query;             // (T, B, A)
    float* grad_score_weight;      // (B, A); null for "dot"
    // out: results
    float* grad_gates;             // (T, B, 4H)
    float* grad_h;                 // (B, H)
    float* grad_cell;              // (B, H)
    float* grad_memory;            // (B, S0, H), or null
};

// The gradient of every weight, from what the backward scan left: sums over steps and rows. Results may be null.
struct WeightGradients {
    int64_t threads;
    int64_t steps, rows, size, attention, held;
    const uint8_t* start;          // (T, B)
    const float *h, *hidden, *output;
    const float *grad_gates, *grad_keys, *grad_query, *grad_score_weight;
    // out
    float *weight_hh, *key_weight, *query_weight, *query_bias, *score_weight;
};

// Where each step stands in its episode, and what follows from that: `make_timeline`.
struct Count {
    int64_t steps, rows, slots, write_every, bptt_steps;  // slots: of the ring, 0 for as many as are written
    const uint8_t* start;          // (T, B), or null
    const int64_t* before;         // (B) steps of each row's episode before the first
    // out
    int64_t* step;                 // (T, B)
    uint8_t* cut;                  // (T, B)
    int64_t* write_slot;           // (T, B)
};

// What the memory holds after a scan: `next_state`.
struct Remember {
    int64_t threads;
    int64_t steps, rows, size, slots, held;
    const uint8_t* start;          // (T, B)
    const int64_t* write_slot;     // (T, B)
    const int64_t* step;           // (T, B)
    const uint8_t* filled;         // (B, S0)
    const int64_t* written_at;     // (B, S0)
    const float* memory;           // (B, S0, H)
    const float* hidden;           // (T, B, H)
    // out
    int64_t* versions;             // (B, S), −1 for an empty slot
    uint8_t* new_filled;           // (B, S)
    int64_t* new_written_at;       // (B, S)
    float* new_memory;             // (B, S, H)
};

// One step of `SAB.step` without gradient. The new state never shares memory with the old one.
struct Step {
    int64_t threads;
    int64_t rows, input, size, attention, slots, reads, write_every;  // input: I numbers in one row of x
    const float* x;                // (B, I)
    const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;  // (4H, I), (4H, H), (4H), (4H)
    const float *key_weight, *query_weight, *query_bias;     // (A, H), (A, H), (A)
    const float* score_weight;     // (A) for "mlp", null for "dot"
    const uint8_t* start;          // (B), or null
    const float *h, *c, *memory;   // (B, H), (B, H), (B, S, H)
    const uint8_t* filled;         // (B, S)
    const int64_t *written_at, *step;  // (B, S), (B)
    // out
    float *output;                 // (B, 2H): h, s
    float *new_h, *new_c, *new_memory;
    uint8_t* new_filled;
    int64_t *new_written_at, *new_step;
};

// out (rows, N) = x (rows, K) · W + bias, where W (K, N) has element (k, n) at weight[k · along_k + n · along_n].
struct Linear {
    int64_t threads;
    int64_t rows, k, n, along_k, along_n;
    const float* x;
    const float* weight;
    const float* bias;             // (N), or null
    float* out;
};

// out (M, N) = Σ over `terms` of left (terms, M) ⊗ right (terms, N): a weight's gradient.
struct Outer {
    int64_t threads;
    int64_t rows, columns, terms;  // M, N
    int64_t add;                   // 1: to what `out` holds
    const uint8_t* skip;           // (terms), those that are left out, or null
    const float* left;
    const float* right;
    float* out;
};

// One entry, compiled once for each instruction set. Rows never depend on each other, so that any split of them gives
// the same numbers.
template <class Arguments>
struct Entry {
    int64_t (*shared_size)(const Arguments&);               // floats that all threads read: packed weights
    void (*prepare)(const Arguments&, float* shared);
    int64_t (*scratch_size)(const Arguments&);              // floats that each thread needs
    void (*run)(const Arguments&, const float* shared, float* scratch, int64_t first, int64_t last);
};

struct Kernels {
    Entry<Forward> forward;
    Entry<Backward> backward;
    Entry<Step> step;
    Entry<Linear> linear;
    Entry<Outer> outer;
    bool (*all_finite)(int64_t count, const float* x);
    void (*activate)(int64_t count, const float* x, float* tanh, float* sigmoid);  // for the tests of their error
};

}  // namespace sab
