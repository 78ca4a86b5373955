// What the native scan is given: one struct per entry, filled from Python's integers in the order of its fields.
//
// Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S0 of them in the starting memory, V = S0 + T
// versions, R = K + 1 slots that a read touches. Every array is contiguous; times(t) is the step's place in the tape.
#pragma once

#include <cstdint>

#include "agent_arguments.h"

namespace sab {

struct Forward {
    int64_t threads;
    int64_t steps, rows, size, attention, slots, held, reads;
    int64_t keep;  // 1: the tape has T steps, for a backward pass; 0: it has one, written over and over
    double gain;   // of s in h = ĥ + gain · s
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
    double gain;     // of s in h
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
    int64_t steps, rows, input, size, attention, held;
    int64_t add;                   // 1: to what the results hold
    const uint8_t* start;          // (T, B)
    const float* x;                // (T, B, I), or null where weight_ih is
    const float *h, *hidden, *output;
    const float *grad_gates, *grad_keys, *grad_query, *grad_score_weight;
    // out
    float *weight_ih, *weight_hh, *bias_ih, *bias_hh, *key_weight, *query_weight, *query_bias, *score_weight;
};

// A scan that is made from its inputs: the gates are computed where the tape has them.
struct BoundForward {
    Forward scan;                  // gates_in is gates
    int64_t input;                 // I
    const float *x, *weight_ih, *bias_ih, *bias_hh;  // (T, B, I), (4H, I), (4H), (4H)
    float* last;                   // (B, 2H) h and s of the last step, or null
};

// And back: the gradients of the weights are added to what the results hold. Results may be null.
struct BoundBackward {
    Backward scan;
    int64_t input;
    const uint8_t* start;          // (T, B)
    const float *x, *h;            // (T, B, I), (B, H)
    float *weight_ih, *weight_hh, *bias_ih, *bias_hh, *key_weight, *query_weight, *query_bias, *score_weight;
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

// One step without gradient. `SAB.step` gets a new state, which never shares memory with the old one; a stream, which
// takes the step later, gets what it is made of.
struct Step {
    int64_t threads;
    int64_t rows, input, size, attention, slots, reads, write_every;  // input: I numbers in one row of x
    double gain;                   // of s in h
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
    float *new_h, *new_c, *new_memory;  // of these a stream gets c alone, the others are null
    uint8_t* new_filled;
    int64_t *new_written_at, *new_step;
    int64_t* read_slot;            // (B, R), or null: the slots that were scored best, −1 where there was none
    float* weight;                 // (B, R), or null: their weights
    const float* novelty;          // one number, or null where `novel` is
    uint8_t* novel;                // (B): whether h lies farther than novelty · ‖h‖ from every slot that is held
};

// What a stream holds of each row, and the window of steps that it records. All of it is changed in place.
struct Carried {
    float *h, *c, *memory;         // (B, H), (B, H), (B, S, H)
    uint8_t* filled;               // (B, S)
    int64_t *written_at, *step;    // (B, S), (B)
};

struct Recorded {                  // (T, B, …) each; see `Record` in sab_agents/streaming/contexts.py
    uint8_t* observation;
    uint8_t *start, *cut;
    int64_t* step;
    float *h_before, *c_before, *h;
    int64_t *read_slot, *read_step;
    float* weight;                 // (T, B, R)
    int64_t* write_slot;
};

// Takes the step that was computed last: `SABStream.take`.
struct Take {
    int64_t rows, size, slots, reads, write_every, bptt_steps;
    int64_t bytes;                 // of one row's observation
    int64_t width;                 // slots that are planned
    int64_t time;                  // the step's place in the window
    const uint8_t* observation;    // (B, bytes)
    const uint8_t* start;          // (B), or null
    const float *output, *new_c;   // (B, 2H), (B, H)
    const int64_t* read_slot;      // (B, R)
    const float* weight;           // (B, R)
    const uint8_t* novel;          // (B), or null where every h is worth a slot
    const int64_t* chosen;         // (B) slots to write to, −1 for none; or null: the next one that is planned
    const int64_t* order;          // (B, width)
    int64_t* taken;                // (B) how many of these are used
    Carried state;
    Recorded window;
};

// Computes steps and takes each: their observations, float numbers all of them, lie one after the other, and so do starts.
struct TakeSteps {
    int64_t count;
    Step step;                     // the first of them, as is `take`
    Take take;
};

// Ends a window: its pieces become contexts (`Contexts.remember`) and reads and credit are counted (`counted`).
struct Advance {
    int64_t rows, size, slots, reads;
    int64_t bytes, length, bptt_steps;  // length: T of the window; bptt_steps: L
    const double* decay;
    Carried state;                 // after the window
    Recorded window;
    const float* memory;           // (B, S, H) before the window
    const uint8_t* filled;         // (B, S)
    const float* reached;          // (B, S)
    // in and out: the contexts
    int64_t *piece, *offset;       // (B, S)
    uint8_t* observation;          // (B, S, L, bytes)
    float *h, *c, *value;          // (B, S, H), (B, S, H), (B, S, U, H)
    uint8_t* used;                 // (B, S, U)
    int64_t *slot, *written_at;    // (B, S, U)
    int64_t* target;               // (B, S, L)
    // in and out: the statistics
    float *usage, *credit;         // (B, S)
};

// Which slots the next writes take: `next_slots`.
struct Order {
    int64_t rows, slots, width;    // width: slots that are wanted of each row
    int64_t spared;                // so many of the newest come last
    const float* key;              // (B, S) the smallest goes first, the older of equals; or null: the oldest
    const uint8_t* filled;         // (B, S); empty ones go before all others
    const int64_t* written_at;     // (B, S)
    int64_t* order;                // out: (B, width)
};

// The pieces that a gradient of the memory leads to: `push_credit`.
struct Select {
    int64_t rows, size, slots, steps;   // steps: L
    int64_t newest;                // 1: of each row only the piece that wrote the newest of these slots
    const float* gradient;         // (B, S, H)
    const uint8_t* filled;         // (B, S)
    const int64_t *written_at, *piece, *offset;  // (B, S)
    // out
    float* norm;                   // (B, S), added to
    int64_t* column;               // (B, S) the place of the slot's piece among those found, −1 for none
    int64_t *row, *place;          // (B·S) of the pieces found, in their order
    int64_t* steps_reached;        // one number: after so many steps of a piece nothing was reached any more
};

// What the M pieces found are run again with. Zeroes what it takes of the gradient.
struct Gather {
    int64_t rows, size, slots, steps, reads, bytes, count;  // steps: L; count: M
    float* gradient;               // (B, S, H)
    const int64_t *column, *offset, *row, *place;
    const uint8_t* context_observation;
    const float *context_h, *context_c, *context_value;
    const uint8_t* context_used;
    const int64_t* context_target;
    // out
    uint8_t* observation;          // (L, M, bytes)
    float *h, *c, *value;          // (M, H), (M, H), (M, U, H)
    uint8_t* used;                 // (M, U)
    int64_t* target;               // (L, M)
    uint8_t *start, *cut;          // (L, M): no episode starts, and the first steps alone are cut
    float* grad_hidden;            // (L, M, H)
};

// out (rows, N) = x (rows, K) · W + (bias + second bias), where W (K, N) has element (k, n) at weight[k · along_k + n · along_n].
struct Linear {
    int64_t threads;
    int64_t rows, k, n, along_k, along_n;
    const float* x;
    const float* weight;
    const float *bias, *bias2;     // (N) each, or null
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

// A scan with the gates it takes, and its way back to the gradients of all weights.
struct RunForward {
    Linear gates;
    Forward scan;
    float* output;                 // (T, B, 2H): h, s; or null
};

struct RunBackward {
    Backward scan;
    WeightGradients sums;
};

// A linear head over outputs, the gradient of its mean loss, and its way back: `compiled_head.py`.
struct Head {
    int64_t threads;
    int64_t all, width, classes, count;  // outputs, N numbers in each, C, outputs that have a target
    int64_t loss;                  // 0: cross-entropy, 1: binary cross-entropy, 2: squared error
    const float* outputs;          // (all, N)
    const int64_t* place;          // (count) which outputs have a target, or null for all
    const float *weight, *bias;    // (C, N), (C)
    const void* target;            // (count) int64 classes, or (count, C) floats
    float* chosen;                 // (count, N) for the outputs that have one, or null for all
    float* gradient;               // (count, C) for the head's outputs and then their gradient
    // out
    float *grad_weight, *grad_bias;  // added to; or null
    float* back;                   // (all, N)
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
    void (*readout)(const Readout&);
    void (*readout_backward)(const ReadoutBackward&);
    bool (*descend)(const Descent&);  // false: δ or the trace is not finite
    void (*loss_gradient)(const Head&);
    float (*norm)(int64_t count, const float* x);
    bool (*all_finite)(int64_t count, const float* x);
    void (*activate)(int64_t count, const float* x, float* tanh, float* sigmoid);  // for the tests of their error
};

const Kernels& kernels_in_use();  // of the instruction set that was chosen

}  // namespace sab
