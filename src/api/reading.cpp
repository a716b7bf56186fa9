#include "api/reading.hpp"

#include <ctime>

#include "api/value.hpp"
#include "pg/observe.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "utils/timestamp.h"
}

namespace cache_ext::api {

std::uint64_t nanoseconds() noexcept {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

bool peek(std::string_view key, std::int64_t max_age, Datum& value, Visible& found, const core::Scope* scope,
          Freshness wanted) {
    constexpr int kTries = 4;
    for (int attempt = 0; attempt < kTries; ++attempt) {
        found = scope == nullptr ? look_up(key, wanted) : look_up(key, *scope, wanted);
        if (found.where == Visible::Where::kNowhere) break;
        const bool pending = found.where == Visible::Where::kPending;
        const core::Timestamp created_at = pending ? found.pending->created_at : found.entry.created_at;
        if (max_age > 0 && GetCurrentTimestamp() - created_at > max_age) break;
        if (pending) {
            value = decode(found.pending->value, found.pending->encoding);
        } else if (!fetch(found.entry, value)) {
            continue;  // it has just gone
        }
        return true;
    }
    found.where = Visible::Where::kNowhere;
    return false;
}

void log_operation(const char* what, std::string_view key, const char* outcome) {
    if (!pg::settings::log_operations) return;
    ereport(LOG,
            (errmsg("cache_ext: %s \"%.*s\": %s", what, static_cast<int>(key.size()), key.data(), outcome),
             errhidestmt(true)));
}

bool read_or_miss(std::string_view key, std::int64_t max_age, Datum& value, Visible& found,
                  Freshness wanted) {
    if (!usable()) {
        pg::note_cached_read();
        if (reachable()) leave_lease(key);
        return false;
    }
    if (peek(key, max_age, value, found)) [[likely]] {
        count_hit(found);
        log_operation("get", key, "hit");
        return true;
    }
    // Nothing that lasts may be made of the answer, be it that there is none or one that is over.
    pg::note_cached_read();
    leave_lease(key);
    if (wanted == Freshness::kStaleToo && peek(key, max_age, value, found, nullptr, wanted)) {
        count_hit(found);
        log_operation("get", key, "stale hit");
        return true;
    }
    pg::session().counters.add(core::Counter::kMisses);
    log_operation("get", key, "miss");
    return false;
}

}  // namespace cache_ext::api
