#include "pg/leases.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "core/hash.hpp"

namespace cache_ext::pg {

namespace {

constexpr std::size_t kWordDigits = 16;
constexpr std::size_t kTokenWords = 3;

std::uint64_t token_check(const core::Id128& instance, std::uint64_t key_hash, core::Version birth) noexcept {
    return core::mix(instance.hi ^ key_hash, instance.lo ^ birth ^ 0x6c65617365ULL);
}

}  // namespace

Leases::Slot* Leases::find(std::uint64_t key_hash, core::Timestamp now) noexcept {
    for (std::size_t i = 0; i < used_; ++i) {
        if (slots_[i].key_hash == key_hash && slots_[i].until > now) return &slots_[i];
    }
    return nullptr;
}

void Leases::miss(std::uint64_t key_hash, const Lease& lease, int level, core::Timestamp now) noexcept {
    if (Slot* earlier = find(key_hash, now); earlier != nullptr) {
        // The oldest miss is not always the first: an imported snapshot goes back in time.
        earlier->lease.birth = std::min(earlier->lease.birth, lease.birth);
        return;
    }
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % kSlots;
    used_ = std::max(used_, std::min(next_ == 0 ? kSlots : next_, kSlots));
    if (slot.until > now) {
        displaced_birth_ =
            displaced_until_ > now ? std::min(displaced_birth_, slot.lease.birth) : slot.lease.birth;
        if (slot.lease.void_) displaced_birth_ = 0;
        displaced_until_ = std::max(displaced_until_, slot.until);
    }
    slot = {key_hash, now + kLife, lease, level};
    in_transaction_ = true;
}

std::optional<Lease> Leases::answer(std::uint64_t key_hash, core::Timestamp now) noexcept {
    Slot* slot = find(key_hash, now);
    if (slot == nullptr) return std::nullopt;
    slot->until = 0;
    return slot->lease;
}

void Leases::roll_back(int level, bool wrote) noexcept {
    if (wrote) {
        // Older ones too: what answers them may have been computed in what was rolled back.
        for (std::size_t i = 0; i < used_; ++i)
            slots_[i].lease.void_ = true;
        displaced_birth_ = 0;
    }
    release(level);
}

void Leases::release(int level) noexcept {
    if (!in_transaction_) return;
    for (std::size_t i = 0; i < used_; ++i)
        slots_[i].level = std::min(slots_[i].level, level - 1);
}

void Leases::end_transaction(bool committed, bool wrote) noexcept {
    if (!committed) roll_back(1, wrote);
    if (!in_transaction_) return;
    for (std::size_t i = 0; i < used_; ++i) {
        slots_[i].level = 0;
        slots_[i].lease.sequence = 0;
    }
    in_transaction_ = false;
}

std::string lease_token(const core::Id128& instance, std::uint64_t key_hash, core::Version birth) {
    char text[kTokenWords * kWordDigits + 1];
    std::snprintf(text, sizeof text, "%016llx%016llx%016llx", static_cast<unsigned long long>(instance.hi),
                  static_cast<unsigned long long>(birth),
                  static_cast<unsigned long long>(token_check(instance, key_hash, birth)));
    return text;
}

TokenState read_lease_token(std::string_view token, const core::Id128& instance, std::uint64_t key_hash,
                            core::Version& birth) noexcept {
    if (token.size() != kTokenWords * kWordDigits) return TokenState::kMalformed;
    std::uint64_t words[kTokenWords];
    for (std::size_t i = 0; i < kTokenWords; ++i) {
        const char* begin = token.data() + i * kWordDigits;
        const auto [end, error] = std::from_chars(begin, begin + kWordDigits, words[i], 16);
        if (error != std::errc{} || end != begin + kWordDigits) return TokenState::kMalformed;
    }
    birth = words[1];
    return words[0] == instance.hi && words[2] == token_check(instance, key_hash, birth)
               ? TokenState::kGood
               : TokenState::kForeign;
}

}  // namespace cache_ext::pg
