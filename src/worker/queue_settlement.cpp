#include "worker/queue_settlement.hpp"

#include <utility>

#include "pg/attach.hpp"
#include "pg/guard.hpp"
#include "pg/outcome.hpp"
#include "pg/queue_in_redis.hpp"
#include "pg/wal.hpp"

namespace cache_ext::worker {

namespace {

/// Of what the server has forgotten, rather twice than never.
redis::Fate fate_of(pg::Outcome outcome) noexcept {
    switch (outcome) {
        case pg::Outcome::kOpen:
            return redis::Fate::kOpen;
        case pg::Outcome::kCommitted:
            return redis::Fate::kDrop;
        case pg::Outcome::kAborted:
        case pg::Outcome::kForgotten:
            break;
    }
    return redis::Fate::kPutBack;
}

}  // namespace

QueueSettlement::QueueSettlement(redis::Client& client, const redis::Layout& layout, std::int32_t place)
    : settler_(client, layout, pg::taker_name()),
      place_(place),
      touched_seen_(pg::region().pushers().takings_touched(place)) {}

void QueueSettlement::step(redis::TimePoint now) {
    const std::uint32_t touched = pg::region().pushers().takings_touched(place_);
    if (std::exchange(touched_seen_, touched) != touched) settler_.expect(now);
    settler_.step(now);
}

void QueueSettlement::turn() {
    if (!settler_.wants_judgement()) return;
    std::vector<redis::Fate> fates;
    fates.reserve(settler_.taken().size());
    bool any_committed = false;
    pg::pg_call([&] {
        for (const redis::Taken& each : settler_.taken()) {
            const pg::Outcome outcome =
                pg::outcome_of({each.token.transaction, each.token.timeline, each.token.position});
            any_committed = any_committed || outcome == pg::Outcome::kCommitted;
            if (outcome == pg::Outcome::kForgotten)
                ereport(LOG, (errmsg("an item of a queue in Redis is put back that may have been taken"),
                              errdetail("Transaction %llu is too old to know whether it was committed.",
                                        static_cast<unsigned long long>(each.token.transaction))));
            fates.push_back(fate_of(outcome));
        }
        // What is dropped there must not be undone here by a crash.
        if (any_committed) pg::flush_wal();
    });
    settler_.settle(fates);
}

}  // namespace cache_ext::worker
