// Every operation that Python can call, by its arguments. What returns false or a negative number has done nothing but
// what is said here; any of them may throw std::bad_alloc.
#pragma once

#include "arguments.h"

namespace sab {

bool forward(const Forward& of);               // false: a slot is out of range
void backward(const Backward& of);
bool step(const Step& of);                     // false: x is not finite
int64_t count(const Count& of);                // the highest slot that is written to, −1 where none is
bool remember(const Remember& of);             // false: a slot is out of range
void linear(const Linear& of);
void layer_backward(const LayerBackward& of);
void outer(const Outer& of);
void gru(const Gru& of);
void gru_backward(const GruBackward& of);

bool take(const Take& of);                     // false: a slot is out of range
int64_t take_steps(const TakeSteps& of);       // steps that were taken, up to one that is not finite or out of range
bool advance(const Advance& of);               // false: an index is out of range
int64_t select(Select& of);                    // pieces that were selected; −1: an index is out of range
void gather(const Gather& of);

bool head(const Head& of);                     // false: a place or class is out of range
void readout(const Readout& of);
void readout_backward(const ReadoutBackward& of);
bool descend(Descent& of);                     // false, and vector has not changed: something is not finite
bool note(const Note& of);                     // false: x is not finite
void units(const Units& of);
void units_backward(const UnitsBackward& of);

void mix(const Mix& of);
void mix_learn(const MixLearn& of);
void standardise(const Standardise& of);
void measure(const Measure& of);

bool policy_loss(const PolicyLoss& of);        // false: an action is out of range
void value_loss(const ValueLoss& of);

bool all_finite(const AllFinite& of);
double norm(const Norm& of);
void activate(const Activate& of);
void large_pages(const LargePages& of);

}  // namespace sab
