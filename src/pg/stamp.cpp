#include "pg/stamp.hpp"

#include "pg/attach.hpp"
#include "pg/testing.hpp"

extern "C" {
#include "utils/timestamp.h"
}

namespace cache_ext::pg {

namespace {

core::TagName tag_of(const Invalidation& i) noexcept {
    return {i.scope.space, i.text, region().store().tags().hash(i.scope.space, i.text)};
}

void stamp_one(const Invalidation& i, core::Version version) noexcept {
    core::Store& store = region().store();
    const core::Base base = region().base();
    switch (i.kind) {
        case InvalidationKind::kTag:
            store.stamp_tag(base, tag_of(i), version);
            break;
        case InvalidationKind::kKey:
        case InvalidationKind::kKeyEverywhere:
            store.stamp_key(base, i.scope, i.text, i.kind == InvalidationKind::kKeyEverywhere, version);
            break;
        case InvalidationKind::kPattern:
            store.stamp_pattern(base, i.scope.space, &i.scope.id, i.text, version);
            break;
        case InvalidationKind::kPatternEverywhere:
            store.stamp_pattern(base, i.scope.space, nullptr, i.text, version);
            break;
        case InvalidationKind::kSpace:
            store.stamp_space(base, i.scope.space, version);
            break;
        case InvalidationKind::kExpire:
            store.expire(base, {i.scope.id, i.text, store.key_hash(i.scope.id, i.text)},
                         GetCurrentTimestamp());
            break;
        case InvalidationKind::kExpireTag:
            store.expire_tag(base, tag_of(i), version, GetCurrentTimestamp());
            break;
        case InvalidationKind::kElsewhere:  // has no version
            break;
    }
}

}  // namespace

core::Version Stamp::version() noexcept {
    if (version_ == 0) {
        version_ = region().take_version(mark_, xid_);
        testing::reach(testing::Stop::kRegistered);
    }
    return version_;
}

void Stamp::invalidate(const Invalidation& invalidation) noexcept {
    if (invalidation.kind == InvalidationKind::kElsewhere) return;
    if (!quarantine(invalidation)) stamp_one(invalidation, version());
}

void Stamp::write(const core::TagName& tag) noexcept {
    const auto put = [&](std::uint32_t& cell) {
        return region().store().quarantine_tag(region().base(), tag, cell);
    };
    if (!quarantine_as(put)) region().store().stamp_tag(region().base(), tag, version());
}

void Stamp::everything(const core::Id128& space) noexcept {
    region().store().stamp_space(region().base(), space, version());
}

void Stamp::everything_everywhere() noexcept { region().store().stamp_all(region().base(), version()); }

bool Stamp::quarantine(const Invalidation& i) noexcept {
    return quarantine_as([&](std::uint32_t& cell) {
        core::Store& store = region().store();
        const core::Base base = region().base();
        switch (i.kind) {
            case InvalidationKind::kTag:
                return store.quarantine_tag(base, tag_of(i), cell);
            case InvalidationKind::kKey:
            case InvalidationKind::kKeyEverywhere:
                return store.quarantine_key(base, i.scope, i.text, i.kind == InvalidationKind::kKeyEverywhere,
                                            cell, xid_);
            default:
                return false;
        }
    });
}

/// Where the transaction is to be prepared and there is room.
template <class Put>
bool Stamp::quarantine_as(Put&& put) noexcept {
    if (prepared_ == nullptr || prepared_->count == core::Prepared::kCells) return false;
    if (!put(prepared_->cells[prepared_->count])) return false;
    ++prepared_->count;
    return true;
}

}  // namespace cache_ext::pg
