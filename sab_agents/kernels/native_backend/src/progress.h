// How far one thread has come, for another one that follows it.
#pragma once

#include <cstdint>

#include <sched.h>

namespace sab {

class Progress {
  public:
    void reach(int64_t steps) { __atomic_store_n(&reached_, steps, __ATOMIC_RELEASE); }

    // Returns when that many steps are reached. The other thread may have to wait for this one's core, so that this one
    // offers it before long.
    void await(int64_t steps) const {
        for (int64_t tries = 0; __atomic_load_n(&reached_, __ATOMIC_ACQUIRE) < steps; ++tries)
            if (tries > PATIENCE) sched_yield();
    }

  private:
    static constexpr int64_t PATIENCE = 2000;
    alignas(64) int64_t reached_ = 0;
};

}  // namespace sab
