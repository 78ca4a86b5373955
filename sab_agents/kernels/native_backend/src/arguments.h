// The arguments of every operation, one structure each; `structure.h` says how Python comes to know their fields.
//
// Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots, S0 of them in the starting
// memory, V = S0 + T versions, R = K + 1 slots that a read touches, L = bptt_steps, U = L·R. Every array is contiguous.
// The caller vouches for shapes and element types, and for indices unless a comment says that their range is checked.
#pragma once

#include <cstdint>

#include "structure.h"

namespace sab {

// --- Weights and gradients

struct Projection {
    STRUCTURE(Projection);
    FIELD(const float*, weight_ih);             // (4H, I)
    FIELD(const float*, bias_ih);               // (4H)
    FIELD(const float*, bias_hh);               // (4H)
};

struct Recurrence {
    STRUCTURE(Recurrence);
    FIELD(const float*, weight_hh);             // (4H, H)
    FIELD(const float*, key_weight);            // (A, H)
    FIELD(const float*, query_weight);          // (A, H)
    FIELD(const float*, query_bias);            // (A)
    FIELD(Optional<const float>, score_weight); // (A) w₃, if the kind of score has it
    FIELD(Optional<const float>, age_weight);   // (H) u, there where scores know age
    FIELD(Optional<const float>, age_bias);     // (1) β
    FIELD(Optional<const float>, gate_weight);  // (H, H) W_g, there where what was read enters through a gate
    FIELD(Optional<const float>, gate_bias);    // (H) b_g
    FIELD(Optional<const float>, output_gate_weight);  // (H) w, there where what was read leaves through a gate
    FIELD(Optional<const float>, output_gate_bias);    // (H) b

    bool ages() const { return age_weight != nullptr; }
    bool gated() const { return gate_weight != nullptr; }
    bool gates_output() const { return output_gate_weight != nullptr; }
    // Whether what is read becomes a part of h.
    bool enters(double gain) const { return gated() || gain != 0.0; }
    // Q, how many linear functions of ĥ a read takes: those of the query, then λ, then the gate's.
    int64_t attended(int64_t attention, int64_t size) const { return attention + ages() + (gated() ? size : 0); }
};

struct Gradients {  // of weights; absent for those that want none
    STRUCTURE(Gradients);
    FIELD(Optional<float>, weight_ih);
    FIELD(Optional<float>, weight_hh);
    FIELD(Optional<float>, bias_ih);
    FIELD(Optional<float>, bias_hh);
    FIELD(Optional<float>, key_weight);
    FIELD(Optional<float>, query_weight);
    FIELD(Optional<float>, query_bias);
    FIELD(Optional<float>, score_weight);
    FIELD(Optional<float>, age_weight);
    FIELD(Optional<float>, age_bias);
    FIELD(Optional<float>, gate_weight);
    FIELD(Optional<float>, gate_bias);
    FIELD(Optional<float>, output_gate_weight);
    FIELD(Optional<float>, output_gate_bias);
};

// --- A scan and its backward pass

struct Tape {  // what the forward pass leaves; with keep = 0 those marked * have one step, written over and over
    STRUCTURE(Tape);
    FIELD(float*, gates);                       // * (T, B, 4H) activated, the forget gate 0 at episode starts
    FIELD(float*, cell);                        // * (T + 1, B, H) c before the first step and after each
    FIELD(float*, output);                      // * (T, B, H) ĥ
    FIELD(float*, query);                       // * (T, B, Q) the query, λ, and the gate after its activation
    FIELD(float*, keys);                        // (V, B, A) of what was written and of slots that were read; none with keep = 0
    FIELD(float*, scores);                      // * (T, B, R) falling, −inf where there was nothing to read
    FIELD(float*, summary);                     // (T, B, H) s
    FIELD(float*, hidden);                      // (T, B, H) what each step stores
    FIELD(Optional<float>, state);              // (T, B, H) h, there where that is not what is stored
    FIELD(int64_t*, versions);                  // (T, B, R) that were read, −1 where there was nothing to read
    FIELD(float*, weights);                     // (T, B, R) of these
    FIELD(float*, last_cell);                   // (B, H) c after the last step
};

struct Sent {  // what the backward pass leaves
    STRUCTURE(Sent);
    FIELD(float*, states);                      // (V, B, H); of slots that no step read, this and the next are not set
    FIELD(float*, keys);                        // (V, B, A)
    FIELD(float*, query);                       // (T, B, Q)
    FIELD(Optional<float>, state);              // (T, B, H) of h, there where that is not what is stored
    FIELD(float*, score_weight);                // (B, A)
    FIELD(Optional<float>, output_gate);        // (B, 2H) of w, then of b, there where s leaves through a gate
    FIELD(float*, gates);                       // (T, B, 4H)
    FIELD(float*, h);                           // (B, H)
    FIELD(float*, cell);                        // (B, H)
};

// A version of a row, (H): a slot of the starting memory, or what a step stored.
template <class Scan>
const float* version_in(const Scan& of, int64_t version, int64_t row) {
    if (version < of.held) return of.memory + (row * of.held + version) * of.size;
    return of.tape.hidden + ((version - of.held) * of.rows + row) * of.size;
}

struct Forward {
    STRUCTURE(Forward);
    FIELD(int64_t, threads);
    FIELD(int64_t, steps);
    FIELD(int64_t, rows);
    FIELD(int64_t, input);
    FIELD(int64_t, size);
    FIELD(int64_t, attention);
    FIELD(int64_t, slots);
    FIELD(int64_t, held);                       // S0
    FIELD(int64_t, reads);
    FIELD(int64_t, keep);                       // 1: the tape has every step, for a backward pass
    FIELD(int64_t, score);                      // the kind, by its place in `Scores`
    FIELD(double, gain);                        // of s in h = ĥ + gain · s, where there is no gate
    FIELD(double, floor);                       // what is added to the sum that the weights are divided by
    FIELD(double, sharpness);                   // κ: weights follow from (exp(κu) − 1)/κ of what is above the threshold
    FIELD(int64_t, age_scale);                  // τ in λ · log(1 + age/τ)
    FIELD(int64_t, apart);                      // 1: ĥ is stored, and not h
    FIELD(const float*, x);                     // (T, B, I); or (T, B, 4H), the gates, where there is no projection
    FIELD(Optional<Projection>, projection);
    FIELD(Recurrence, recurrence);
    FIELD(const float*, h);                     // (B, H)
    FIELD(const float*, c);                     // (B, H)
    FIELD(const float*, memory);                // (B, S0, H)
    FIELD(const uint8_t*, start);               // (T, B)
    FIELD(const int64_t*, write_slot);          // (T, B), −1 where nothing is written; its range is checked
    FIELD(const uint8_t*, filled);              // (B, S0)
    FIELD(Optional<const int64_t>, step);       // (B) steps of the episode before; there, as the next, where ages count
    FIELD(Optional<const int64_t>, written_at); // (B, S0)
    FIELD(Tape, tape);                          // out; its gates may be x
    FIELD(int64_t, parts);                      // of the outputs: h, then s, then what is stored
    FIELD(Optional<float>, outputs);            // out: (T, B, parts · H)
    FIELD(Optional<const int64_t>, places);     // (T, B) among `given` rows of outputs; others are nowhere. Absent: in order
    FIELD(int64_t, given);
    FIELD(Optional<float>, last_output);        // out: (B, parts · H) of the last step

    const float* gates() const { return projection.weight_ih == nullptr ? x : tape.gates; }
    // The row of the outputs of step t of a row; null for nowhere.
    float* output_of(int64_t t, int64_t row) const {
        const int64_t place = places == nullptr ? t * rows + row : places[t * rows + row];
        return outputs == nullptr || (places != nullptr && place >= given) ? nullptr : outputs + place * parts * size;
    }
    // (T, B, H) h of each step.
    float* states() const { return apart ? tape.state.address : tape.hidden; }
    const float* version_of(int64_t version, int64_t row) const { return version_in(*this, version, row); }
};

struct Backward {
    STRUCTURE(Backward);
    FIELD(int64_t, threads);
    FIELD(int64_t, steps);
    FIELD(int64_t, rows);
    FIELD(int64_t, input);
    FIELD(int64_t, size);
    FIELD(int64_t, attention);
    FIELD(int64_t, held);
    FIELD(int64_t, reads);
    FIELD(int64_t, credit);                     // 1: gradient flows into the memories that were read
    FIELD(int64_t, add);                        // 1: the gradients of weights are added to what is there
    FIELD(int64_t, score);                      // the kind, by its place in `Scores`
    FIELD(double, gain);
    FIELD(double, floor);
    FIELD(double, sharpness);
    FIELD(int64_t, age_scale);
    FIELD(int64_t, apart);
    FIELD(int64_t, last_only);                  // 1: the gradients of h and s are those of the last step, (B, H)
    FIELD(int64_t, hidden_stride);              // floats between two rows of grad_hidden
    FIELD(int64_t, summary_stride);
    FIELD(int64_t, stored_stride);
    FIELD(Optional<const float>, grad_hidden);  // (T, B, H) of h; zeros where it is absent, as the next three
    FIELD(Optional<const float>, grad_summary); // (T, B, H)
    FIELD(Optional<const float>, grad_stored);  // (T, B, H) of ĥ, where that is stored
    FIELD(Optional<const int64_t>, places);     // (T, B) of these three, as the next of the forward pass
    FIELD(int64_t, given);
    FIELD(Optional<const float>, grad_last_cell);  // (B, H)
    FIELD(Recurrence, recurrence);
    FIELD(Optional<const float>, x);            // (T, B, I), absent where no gradient of weight_ih is wanted
    FIELD(const float*, h);                     // (B, H), as the next four of the forward pass
    FIELD(const float*, memory);                // (B, S0, H)
    FIELD(const uint8_t*, start);               // (T, B)
    FIELD(const uint8_t*, cut);                 // (T, B)
    FIELD(const int64_t*, write_slot);          // (T, B)
    FIELD(Optional<const int64_t>, step);       // (B), as the next of the forward pass
    FIELD(Optional<const int64_t>, written_at); // (B, S0)
    FIELD(Tape, tape);                          // of the forward pass, with every step
    FIELD(Sent, sent);                          // out
    FIELD(Optional<float>, grad_memory);        // out: (B, S0, H)
    FIELD(Gradients, gradients);                // out

    const float* states() const { return apart ? tape.state.address : tape.hidden; }
    const float* version_of(int64_t version, int64_t row) const { return version_in(*this, version, row); }

    // The row (t, r) of the gradient of h or s; null for zeros.
    const float* row_of(const float* gradient, int64_t stride, int64_t t, int64_t row) const {
        if (gradient == nullptr || (last_only && t < steps - 1)) return nullptr;
        const int64_t place = (last_only ? 0 : t * rows) + row;
        if (places == nullptr) return gradient + place * stride;
        return places[place] < given ? gradient + places[place] * stride : nullptr;
    }
};

// --- What stands around a scan

struct Count {  // where each step stands in its episode, and what follows from that
    STRUCTURE(Count);
    FIELD(int64_t, steps);
    FIELD(int64_t, rows);
    FIELD(int64_t, slots);                      // of the ring, 0 for as many as are written
    FIELD(int64_t, write_every);
    FIELD(int64_t, bptt_steps);
    FIELD(Optional<const uint8_t>, start);      // (T, B)
    FIELD(const int64_t*, before);              // (B) steps of each row's episode before the first
    FIELD(int64_t*, step);                      // out: (T, B)
    FIELD(uint8_t*, cut);                       // out: (T, B)
    FIELD(int64_t*, write_slot);                // out: (T, B)
};

struct Remember {  // what the memory holds after a scan
    STRUCTURE(Remember);
    FIELD(int64_t, threads);
    FIELD(int64_t, steps);
    FIELD(int64_t, rows);
    FIELD(int64_t, size);
    FIELD(int64_t, slots);
    FIELD(int64_t, held);
    FIELD(int64_t, stride);                     // floats between two rows of hidden
    FIELD(const uint8_t*, start);               // (T, B)
    FIELD(const int64_t*, write_slot);          // (T, B); its range is checked
    FIELD(const int64_t*, step);                // (T, B)
    FIELD(const uint8_t*, filled);              // (B, S0)
    FIELD(const int64_t*, written_at);          // (B, S0)
    FIELD(const float*, memory);                // (B, S0, H)
    FIELD(const float*, hidden);                // (T, B, H), rows `stride` apart
    FIELD(int64_t*, versions);                  // out: (B, S), −1 for an empty slot
    FIELD(uint8_t*, new_filled);                // out: (B, S)
    FIELD(int64_t*, new_written_at);            // out: (B, S)
    FIELD(float*, new_memory);                  // out: (B, S, H)
};

struct Linear {  // out (rows, N) = x (rows, K) · W (K, N) + bias + second bias, then the activation
    STRUCTURE(Linear);
    FIELD(int64_t, threads);
    FIELD(int64_t, rows);
    FIELD(int64_t, k);
    FIELD(int64_t, n);
    FIELD(int64_t, along_k);                    // W has element (k, n) at weight[k · along_k + n · along_n]
    FIELD(int64_t, along_n);
    FIELD(const float*, x);
    FIELD(const float*, weight);
    FIELD(Optional<const float>, bias);         // (N)
    FIELD(Optional<const float>, second_bias);  // (N)
    FIELD(int64_t, activation);                 // 0: none, 1: tanh, 2: ReLU
    FIELD(float*, out);
};

struct LayerBackward {  // of out (N, F) = activation(x (N, D) · Wᵀ + bias)
    STRUCTURE(LayerBackward);
    FIELD(int64_t, threads);
    FIELD(int64_t, rows);                       // N
    FIELD(int64_t, inputs);                     // D
    FIELD(int64_t, outputs);                    // F
    FIELD(int64_t, activation);                 // as in `Linear`
    FIELD(int64_t, add);                        // 1: the gradients of weight and bias are added to what is there
    FIELD(const float*, x);                     // (N, D)
    FIELD(const float*, out);                   // (N, F)
    FIELD(const float*, weight);                // (F, D)
    FIELD(float*, gradient);                    // (N, F) of out; changed to that before the activation
    FIELD(Optional<float>, grad_weight);        // out, where it is wanted, as the next two: (F, D)
    FIELD(Optional<float>, grad_bias);          // out: (F)
    FIELD(Optional<float>, grad_x);             // out: (N, D)
};

struct Outer {  // out (rows, columns) = Σ over terms of left (terms, rows) ⊗ right (terms, columns), and Σ of left alone
    STRUCTURE(Outer);
    FIELD(int64_t, threads);
    FIELD(int64_t, rows);
    FIELD(int64_t, columns);
    FIELD(int64_t, terms);
    FIELD(int64_t, add);                        // 1: to what `out` and `sums` hold
    FIELD(Optional<const uint8_t>, skip);       // (terms), those that are left out
    FIELD(const float*, left);
    FIELD(Optional<const float>, right);        // absent where there are no columns
    FIELD(Optional<float>, out);
    FIELD(Optional<float>, sums);               // out, where wanted: (rows) Σ over terms of left
};

// --- A gated recurrent unit: M pieces of sequences, N steps in the order of packed sequences

struct Gru {
    STRUCTURE(Gru);
    FIELD(int64_t, threads);
    FIELD(int64_t, rows);                       // M
    FIELD(int64_t, steps);                      // of the longest piece
    FIELD(int64_t, size);                       // H
    FIELD(const int64_t*, sizes);               // (steps) pieces that have such a step, never growing
    FIELD(const float*, weight_hh);             // (3H, H)
    FIELD(const float*, bias_hh);               // (3H)
    FIELD(const float*, h);                     // (M, H) before the first steps
    FIELD(float*, gates);                       // (N, 3H) what inputs and their bias give; changed to r, z and n
    FIELD(float*, recurrent);                   // out: (N, H) what h gives n, before r
    FIELD(float*, before);                      // out: (N, H) h before each step
    FIELD(float*, output);                      // out: (N, H) h after it
};

struct GruBackward {
    STRUCTURE(GruBackward);
    FIELD(int64_t, threads);
    FIELD(int64_t, rows);                       // M; what is not explained is as in `Gru`
    FIELD(int64_t, steps);
    FIELD(int64_t, size);
    FIELD(int64_t, all);                        // N
    FIELD(const int64_t*, sizes);
    FIELD(const float*, weight_hh);
    FIELD(const float*, gates);
    FIELD(const float*, recurrent);
    FIELD(const float*, before);
    FIELD(const float*, gradient);              // (N, H) of the outputs
    FIELD(float*, to_given);                    // out: (N, 3H) of what inputs give the gates
    FIELD(float*, to_recurrent);                // out: (N, 3H) of what h gives them
};

// --- One step without gradient, and streams

struct State {
    STRUCTURE(State);
    FIELD(float*, h);                           // (B, H)
    FIELD(float*, c);                           // (B, H)
    FIELD(float*, memory);                      // (B, S, H)
    FIELD(uint8_t*, filled);                    // (B, S)
    FIELD(int64_t*, written_at);                // (B, S)
    FIELD(int64_t*, step);                      // (B)
};

struct Carried {  // what a stream carries: a state, and what its rule of eviction goes by
    STRUCTURE(Carried);
    FIELD(float*, h);                           // as in `State`, and so are the next five
    FIELD(float*, c);
    FIELD(float*, memory);
    FIELD(uint8_t*, filled);
    FIELD(int64_t*, written_at);
    FIELD(int64_t*, step);
    FIELD(float*, usage);                       // (B, S) decayed weights of reads
    FIELD(float*, credit);                      // (B, S) decayed norms of gradients
    FIELD(int64_t*, writes);                    // (B) of the episode
    FIELD(int64_t*, draws);                     // (B) writes of all episodes
};

struct Step {
    STRUCTURE(Step);
    FIELD(int64_t, threads);
    FIELD(int64_t, rows);
    FIELD(int64_t, input);
    FIELD(int64_t, size);
    FIELD(int64_t, attention);
    FIELD(int64_t, slots);
    FIELD(int64_t, reads);
    FIELD(int64_t, write_every);
    FIELD(int64_t, score);                      // the kind, by its place in `Scores`
    FIELD(double, gain);                        // of s in h, where there is no gate
    FIELD(double, floor);                       // as in `Forward`, as the next three
    FIELD(double, sharpness);
    FIELD(int64_t, age_scale);
    FIELD(int64_t, apart);
    FIELD(const float*, x);                     // (B, I)
    FIELD(Projection, projection);
    FIELD(Recurrence, recurrence);
    FIELD(Optional<const uint8_t>, start);      // (B)
    FIELD(State, state);                        // before the step, not changed
    FIELD(float*, output);                      // out: (B, 2H) h and s
    FIELD(float*, new_c);                       // out: (B, H)
    FIELD(Optional<State>, new_state);          // out: shares no memory with `state`; a stream takes the step later
    FIELD(Optional<int64_t>, read_slot);        // out: (B, R) slots that were scored best, −1 where there was none
    FIELD(Optional<float>, weight);             // out: (B, R) of these
    FIELD(Optional<float>, stored);             // out: (B, H) what it stores if it writes
    FIELD(Optional<const float>, novelty);      // one number, there where `near` is
    FIELD(int64_t, last);                       // 1: only the slot written last is compared
    FIELD(Optional<int64_t>, near);             // out: (B) the slot nearest to that, −1 if beyond novelty · its norm
};

struct Window {  // the steps that a stream records, (T, B, …) each: `WindowRecord`
    STRUCTURE(Window);
    FIELD(uint8_t*, observation);
    FIELD(uint8_t*, start);
    FIELD(uint8_t*, cut);
    FIELD(int64_t*, step);
    FIELD(float*, h_before);
    FIELD(float*, c_before);
    FIELD(float*, h);
    FIELD(int64_t*, read_slot);
    FIELD(int64_t*, read_step);
    FIELD(float*, weight);
    FIELD(int64_t*, write_slot);
};

struct Take {  // takes the step that was computed last
    STRUCTURE(Take);
    FIELD(int64_t, rows);
    FIELD(int64_t, size);
    FIELD(int64_t, slots);
    FIELD(int64_t, reads);
    FIELD(int64_t, write_every);
    FIELD(int64_t, bptt_steps);
    FIELD(int64_t, eviction);                   // `Eviction` in stream.h
    FIELD(int64_t, seed);                       // of the reservoir
    FIELD(double, decay);                       // of usage and credit, for each step
    FIELD(int64_t, refresh);                    // 1: a write near a slot goes there; 0: it is skipped
    FIELD(Optional<float>, distance);           // (B, S, S) between slots, there where the eviction goes by it
    FIELD(int64_t*, known);                     // one number: whether `distance` holds what it should
    FIELD(int64_t, bytes);                      // of one row's observation
    FIELD(int64_t, time);                       // the step's place in the window
    FIELD(const uint8_t*, observation);         // (B, bytes)
    FIELD(Optional<const uint8_t>, start);      // (B)
    FIELD(const float*, output);                // (B, 2H), as the next three of the step
    FIELD(const float*, new_c);                 // (B, H)
    FIELD(const int64_t*, read_slot);           // (B, R)
    FIELD(const float*, weight);                // (B, R)
    FIELD(Optional<const float>, stored);       // (B, H), absent where that is h
    FIELD(Optional<const int64_t>, near);       // (B), absent where no write asks; its range is checked
    FIELD(uint8_t*, kept);                      // changed: (B, S) whether a slot holds what it held before the window
    FIELD(Carried, state);                      // changed
    FIELD(Optional<Window>, window);            // changed; absent where nothing is recorded
};

struct TakeSteps {  // computes steps and takes each; their observations, float32, and starts lie one after the other
    STRUCTURE(TakeSteps);
    FIELD(int64_t, count);
    FIELD(const Step*, step);                   // the first of them, as is `take`
    FIELD(const Take*, take);
};

struct Contexts {  // what each slot carries to be replayed: sab_agents/kernels/types.py
    STRUCTURE(Contexts);
    FIELD(int64_t*, piece);                     // (B, S)
    FIELD(int64_t*, offset);                    // (B, S)
    FIELD(uint8_t*, observation);               // (B, S, L, bytes)
    FIELD(float*, h);                           // (B, S, H)
    FIELD(float*, c);                           // (B, S, H)
    FIELD(float*, value);                       // (B, S, U, H)
    FIELD(uint8_t*, used);                      // (B, S, U)
    FIELD(int64_t*, slot);                      // (B, S, U)
    FIELD(int64_t*, written_at);                // (B, S, U)
    FIELD(int64_t*, target);                    // (B, S, L)
};

struct Advance {  // ends a window: its pieces become contexts
    STRUCTURE(Advance);
    FIELD(int64_t, rows);
    FIELD(int64_t, size);
    FIELD(int64_t, slots);
    FIELD(int64_t, reads);
    FIELD(int64_t, bytes);
    FIELD(int64_t, length);                     // T of the window
    FIELD(int64_t, bptt_steps);
    FIELD(Carried, state);                      // after the window, not changed
    FIELD(Window, window);                      // not changed; the range of its slots is checked
    FIELD(const float*, memory);                // (B, S, H) before the window
    FIELD(uint8_t*, kept);                      // (B, S) as `Take` left it; afterwards all that is filled
    FIELD(Contexts, contexts);                  // changed
};

struct Select {  // the pieces that a gradient of the memory leads to
    STRUCTURE(Select);
    FIELD(int64_t, rows);
    FIELD(int64_t, size);
    FIELD(int64_t, slots);
    FIELD(int64_t, steps);                      // L
    FIELD(int64_t, newest);                     // 1: of each row only the piece that wrote the newest of these slots
    FIELD(const float*, gradient);              // (B, S, H)
    FIELD(const uint8_t*, filled);              // (B, S)
    FIELD(const int64_t*, written_at);          // (B, S)
    FIELD(Contexts, contexts);                  // not changed; the range of piece and offset is checked
    FIELD(Optional<float>, norm);               // (B, S), to which the norms of the gradient are added
    FIELD(Optional<float>, credit);             // (B, S), to which those are added that are finite, for slots kept
    FIELD(Optional<const uint8_t>, kept);       // (B, S), there where `credit` is
    FIELD(int64_t*, column);                    // out: (B, S) the place of the slot's piece among those selected, or −1
    FIELD(int64_t*, row);                       // out: (B·S) of the pieces selected, in their order
    FIELD(int64_t*, place);                     // out: (B·S)
    FIELD(Result<int64_t>, steps_reached);      // the first of each piece that gradient reaches
};

struct Gather {  // what M selected pieces are replayed with; zeroes what it takes of the gradient
    STRUCTURE(Gather);
    FIELD(int64_t, rows);
    FIELD(int64_t, size);
    FIELD(int64_t, slots);
    FIELD(int64_t, steps);                      // L
    FIELD(int64_t, reads);
    FIELD(int64_t, bytes);
    FIELD(int64_t, count);                      // M
    FIELD(float*, gradient);                    // (B, S, H)
    FIELD(const int64_t*, column);              // as `Select` left it, as the next two
    FIELD(const int64_t*, row);
    FIELD(const int64_t*, place);
    FIELD(const int64_t*, slot_written_at);     // (B, S)
    FIELD(Contexts, contexts);                  // not changed
    FIELD(uint8_t*, observation);               // out: (L, M, bytes)
    FIELD(float*, h);                           // out: (M, H)
    FIELD(float*, c);                           // out: (M, H)
    FIELD(float*, value);                       // out: (M, U, H)
    FIELD(uint8_t*, used);                      // out: (M, U)
    FIELD(int64_t*, target);                    // out: (L, M)
    FIELD(uint8_t*, start);                     // out: (L, M), no episode starts
    FIELD(uint8_t*, cut);                       // out: (L, M), the first steps alone
    FIELD(int64_t*, step);                      // out: (M) steps of the episode before the piece
    FIELD(int64_t*, written_at);                // out: (M, U) of the memories that it read
    FIELD(float*, grad_stored);                 // out: (L, M, H)
};

// --- What a learner does beside its scans

struct Head {  // the gradient of the mean loss of a linear head over outputs, back to these
    STRUCTURE(Head);
    FIELD(int64_t, threads);
    FIELD(int64_t, all);                        // outputs
    FIELD(int64_t, width);                      // N features of each
    FIELD(int64_t, classes);                    // C
    FIELD(int64_t, count);                      // outputs that have a target
    FIELD(int64_t, loss);                       // 0: cross-entropy, 1: binary cross-entropy, 2: squared error
    FIELD(const float*, outputs);               // (all, N)
    FIELD(Optional<const int64_t>, place);      // (count) which outputs have a target, absent for all; range checked
    FIELD(const float*, weight);                // (C, N)
    FIELD(const float*, bias);                  // (C)
    FIELD(const void*, target);                 // (count) int64 classes, range checked; or (count, C) float32
    FIELD(Optional<float>, chosen);             // scratch: (count, N), there where `place` is
    FIELD(float*, gradient);                    // scratch: (count, C) for the head's outputs, then their gradient
    FIELD(Optional<float>, grad_weight);        // added to
    FIELD(Optional<float>, grad_bias);          // added to
    FIELD(float*, grad_outputs);                // out: (all, N)
};

// A linear layer, layer normalisation, leaky ReLU and a linear layer for one row: F features in, W hidden, D out.
struct Readout {
    STRUCTURE(Readout);
    FIELD(int64_t, inputs);                     // F
    FIELD(int64_t, width);                      // W
    FIELD(int64_t, outputs);                    // D
    FIELD(double, slope);                       // of the leaky ReLU
    FIELD(double, epsilon);                     // what normalisation adds to the variance
    FIELD(const float*, first_weight);          // (W, F)
    FIELD(const float*, first_bias);            // (W)
    FIELD(const float*, second_weight);         // (D, W)
    FIELD(const float*, second_bias);           // (D)
    FIELD(const float*, x);                     // (F)
    FIELD(float*, normal);                      // out: (W) after normalisation
    FIELD(float*, hidden);                      // out: (W) after the leaky ReLU
    FIELD(float*, scale);                       // out: one number, 1 / standard deviation
    FIELD(float*, out);                         // out: (D)
};

struct ReadoutBackward {
    STRUCTURE(ReadoutBackward);
    FIELD(int64_t, inputs);
    FIELD(int64_t, width);
    FIELD(int64_t, outputs);
    FIELD(double, slope);
    FIELD(const float*, first_weight);
    FIELD(const float*, second_weight);
    FIELD(const float*, x);                     // as the next three of the forward pass
    FIELD(const float*, normal);
    FIELD(const float*, hidden);
    FIELD(const float*, scale);
    FIELD(const float*, gradient);              // (D)
    FIELD(float*, grad_first_weight);           // added to, as the next three
    FIELD(float*, grad_first_bias);
    FIELD(float*, grad_second_weight);
    FIELD(float*, grad_second_bias);
    FIELD(float*, grad_raw);                    // scratch: (W) of the first layer's results
    FIELD(float*, grad_x);                      // out: (F)
};

struct Descent {  // one step of ObGD on P parameters: sab_agents/optim/obgd.py
    STRUCTURE(Descent);
    FIELD(int64_t, count);                      // P
    FIELD(int64_t, reset);                      // 1: the trace is cleared afterwards
    FIELD(double, decay);                       // γ λ
    FIELD(double, learning_rate);               // α
    FIELD(double, kappa);                       // κ
    FIELD(double, delta);                       // δ
    FIELD(float*, vector);                      // moved
    FIELD(float*, gradient);                    // cleared
    FIELD(float*, trace);                       // z, changed
    FIELD(Result<double>, step_size);
    FIELD(Result<double>, norm);                // ‖z‖₁
};

struct Units {  // one step of n trace units with O inputs: sab_agents/online/rtu.py
    STRUCTURE(Units);
    FIELD(int64_t, units);                      // n
    FIELD(int64_t, inputs);                     // O
    FIELD(const float*, nu);                    // (n)
    FIELD(const float*, omega);                 // (n)
    FIELD(const float*, weight);                // (2, n, O)
    FIELD(const float*, x);                     // (O)
    FIELD(const float*, before);                // (n, 2) state
    FIELD(float*, after);                       // out: (n, 2) state; may be `before`
    FIELD(float*, output);                      // out: (2 n)
    FIELD(Optional<float>, sensitivity);        // changed: (n, 2 + O, 2)
};

struct UnitsBackward {
    STRUCTURE(UnitsBackward);
    FIELD(int64_t, units);
    FIELD(int64_t, inputs);
    FIELD(const float*, state);                 // after the step, as the next
    FIELD(const float*, sensitivity);
    FIELD(const float*, gradient);              // (2 n) of the output
    FIELD(float*, grad_nu);                     // added to, as the next two
    FIELD(float*, grad_omega);
    FIELD(float*, grad_weight);
};

struct Note {  // one row's observation, and that no episode starts with it, into the record of a window
    STRUCTURE(Note);
    FIELD(int64_t, size);                       // I
    FIELD(int64_t, time);                       // where in the record
    FIELD(const float*, x);                     // (I)
    FIELD(float*, record);                      // (T, I), changed
    FIELD(Optional<uint8_t>, starts);           // (T), changed
};

// --- Losses of PPO, each with its gradient; N steps, k actions

struct PolicyLoss {  // the clipped surrogate of categorical distributions, and their entropy
    STRUCTURE(PolicyLoss);
    FIELD(int64_t, count);                      // N
    FIELD(int64_t, choices);                    // k
    FIELD(int64_t, first);                      // the number of the first action
    FIELD(double, clip_range);
    FIELD(double, entropy_weight);              // of the mean negative entropy in the loss
    FIELD(const float*, logits);                // (N, k)
    FIELD(const int64_t*, actions);             // (N) that were taken; their range is checked
    FIELD(const float*, log_prob);              // (N) of these, when they were taken
    FIELD(const float*, advantages);            // (N)
    FIELD(float*, figures);                     // out: (4) means: surrogate loss, negative entropy, KL, fraction clipped
    FIELD(float*, gradient);                    // out: (N, k) of the logits
};

struct ValueLoss {  // the squared error of values
    STRUCTURE(ValueLoss);
    FIELD(int64_t, count);                      // N
    FIELD(double, limit);                       // greatest change of a value; infinite for any
    FIELD(double, weight);                      // of the mean squared error in the loss
    FIELD(const float*, values);                // (N)
    FIELD(const float*, before);                // (N) when the steps were taken
    FIELD(const float*, returns);               // (N)
    FIELD(float*, figures);                     // out: (1) the mean squared error
    FIELD(float*, gradient);                    // out: (N) of the values
};

// --- Arrays of floats

struct AllFinite {
    STRUCTURE(AllFinite);
    FIELD(int64_t, threads);
    FIELD(int64_t, count);
    FIELD(const float*, x);
};

struct Norm {
    STRUCTURE(Norm);
    FIELD(int64_t, count);
    FIELD(const float*, x);
};

struct Mix {  // probabilities of C labels by another classifier and by K + R linear ones, and their weighted mean
    STRUCTURE(Mix);
    FIELD(int64_t, labels);
    FIELD(int64_t, linears);
    FIELD(int64_t, views);                      // G: K / G linear ones after another see the same view of a sample
    FIELD(int64_t, features);
    FIELD(int64_t, readouts);                   // R
    FIELD(int64_t, size);                       // F
    FIELD(const float*, x);                     // (G, I)
    FIELD(const float*, output);                // (F) of the other classifier's last layer but one
    FIELD(const float*, head);                  // (C or more, F) its last layer
    FIELD(const float*, bias);                  // (C or more)
    FIELD(const double*, weights);              // (1 + K + R) of the other, of the linear ones and of the readouts
    FIELD(const double*, linear);               // (C, K, 1 + I) the bias first
    FIELD(const double*, readout);              // (C, R, 1 + F) the bias first
    FIELD(double*, each);                       // out: (C, 1 + K + R)
    FIELD(double*, mixed);                      // out: (C)
};

struct MixLearn {  // a step after `Mix`
    STRUCTURE(MixLearn);
    FIELD(int64_t, labels);
    FIELD(int64_t, linears);
    FIELD(int64_t, views);
    FIELD(int64_t, features);
    FIELD(int64_t, readouts);
    FIELD(int64_t, size);
    FIELD(int64_t, label);                      // is checked by the caller
    FIELD(int64_t, known);                      // 0: the weights stay
    FIELD(double, share);
    FIELD(double, least);
    FIELD(const float*, x);                     // (G, I)
    FIELD(const float*, output);                // (F)
    FIELD(const double*, rates);                // (K + R)
    FIELD(const double*, each);                 // (C, 1 + K + R)
    FIELD(double*, weights);                    // (1 + K + R), changed
    FIELD(double*, linear);                     // (C, K, 1 + I), changed
    FIELD(double*, readout);                    // (C, R, 1 + F), changed
};

struct Standardise {  // features, each brought to one scale, at their columns of an input
    STRUCTURE(Standardise);
    FIELD(int64_t, count);                      // n
    FIELD(const double*, values);               // (n)
    FIELD(const double*, mean);                 // (n)
    FIELD(const double*, deviation);            // (n)
    FIELD(const int64_t*, columns);             // (n) are checked by the caller
    FIELD(float*, out);                         // at the columns
};

struct Measure {  // counts features for their scales
    STRUCTURE(Measure);
    FIELD(int64_t, count);                      // n
    FIELD(const double*, values);               // (n)
    FIELD(double*, seen);                       // (n), changed as all that follow
    FIELD(double*, mean);                       // (n)
    FIELD(double*, squares);                    // (n)
    FIELD(double*, deviation);                  // (n)
};

struct Activate {  // for the tests of their error
    STRUCTURE(Activate);
    FIELD(int64_t, count);
    FIELD(const float*, x);
    FIELD(float*, tanh);                        // out
    FIELD(float*, sigmoid);                     // out
};

struct LargePages {  // asks for large pages in a new buffer
    STRUCTURE(LargePages);
    FIELD(int64_t, bytes);
    FIELD(const void*, buffer);
};

}  // namespace sab
