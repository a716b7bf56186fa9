#pragma once

// Warming: computing shared results of cached functions before somebody asks for them, each as the owner of its function.

#include "api/cached_call.hpp"
#include "api/warm_list.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// A cached function whose shared results can be computed from their keys.
struct WarmTarget {
    Oid function;
    const char* name;
    std::string_view prefix;  ///< of its keys, in its present state and under this session's settings
    bool has_failed;
};

/// What is to be warmed, the most used first. In the memory context in which it was made; trivial.
struct WarmPlan {
    WarmTarget* targets = nullptr;
    int target_count = 0;
    MostUsed keys;
};

/// Looks for what was used and is not fresh any more: in the region, and unless only what is in its grace is wanted, in the list of what was used before. Where
/// warming is switched off there is nothing. Needs a transaction; may raise.
WarmPlan plan_warming(bool only_stale);

/// Computes one of them, if there is still none, in a read-only subtransaction with the rights of the function's owner. An error of the function is reported at
/// `level`, once for each function, and is no error here; what tells this process to stop is.
Warmed warm_one(WarmPlan& plan, int number, int level);

/// Keeps to cache_ext.warm_rate.
class WarmPace {
public:
    /// One is being computed from now on.
    void start() noexcept;
    /// Waits until the next one may be. Attends to interrupts.
    void wait();

private:
    TimestampTz next_ = 0;
};

}  // namespace cache_ext::api
