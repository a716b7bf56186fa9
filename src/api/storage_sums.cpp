#include "api/storage_sums.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace cache_ext::api {

namespace {

constexpr int kFirstRoom = 8;
constexpr int kFlags = MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE;

std::uint32_t hash_of(std::string_view owner, std::string_view bucket) noexcept {
    const auto hash = [](std::string_view text) {
        return hash_bytes(reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    };
    return hash_combine(hash(owner), hash(bucket));
}

bool is(const BucketSum& sum, std::string_view owner, std::string_view bucket) noexcept {
    return sum.owner() == owner && sum.bucket() == bucket;
}

}  // namespace

StorageSums StorageSums::make(MemoryContext memory) noexcept {
    StorageSums sums;
    sums.memory_ = memory;
    sums.sums_ = nullptr;
    sums.cells_ = nullptr;
    sums.count_ = sums.room_ = sums.latest_ = 0;
    return sums;
}

std::uint32_t* StorageSums::cell(std::uint32_t hash, std::string_view owner,
                                 std::string_view bucket) noexcept {
    const std::uint32_t mask = 2 * static_cast<std::uint32_t>(room_) - 1;
    for (std::uint32_t i = hash & mask;; i = (i + 1) & mask) {
        if (cells_[i] == 0) return &cells_[i];
        const BucketSum& sum = sums_[cells_[i] - 1];
        if (sum.hash == hash && is(sum, owner, bucket)) return &cells_[i];
    }
}

bool StorageSums::grow() noexcept {
    const int room = room_ == 0 ? kFirstRoom : 2 * room_;
    const auto count = static_cast<Size>(room);
    auto* sums =
        static_cast<BucketSum*>(MemoryContextAllocExtended(memory_, count * sizeof(BucketSum), kFlags));
    auto* cells = static_cast<std::uint32_t*>(
        MemoryContextAllocExtended(memory_, 2 * count * sizeof(std::uint32_t), kFlags | MCXT_ALLOC_ZERO));
    if (sums == nullptr || cells == nullptr) {
        if (sums != nullptr) pfree(sums);
        if (cells != nullptr) pfree(cells);
        return false;
    }
    const std::uint32_t mask = 2 * static_cast<std::uint32_t>(room) - 1;
    for (int i = 0; i < count_; ++i) {
        sums[i] = sums_[i];
        std::uint32_t at = sums[i].hash & mask;
        while (cells[at] != 0)
            at = (at + 1) & mask;
        cells[at] = static_cast<std::uint32_t>(i) + 1;
    }
    if (room_ > 0) {
        pfree(sums_);
        pfree(cells_);
    }
    sums_ = sums;
    cells_ = cells;
    room_ = room;
    return true;
}

bool StorageSums::add(std::string_view owner, std::string_view bucket, int128 bytes, std::int64_t files,
                      CommandId first, CommandId last) noexcept {
    if (latest_ >= count_ || !is(sums_[latest_], owner, bucket)) {
        if (count_ == room_ && !grow()) return false;
        const std::uint32_t hash = hash_of(owner, bucket);
        std::uint32_t* const at = cell(hash, owner, bucket);
        if (*at == 0) {
            auto* text = static_cast<char*>(
                MemoryContextAllocExtended(memory_, owner.size() + bucket.size() + 1, kFlags));
            if (text == nullptr) return false;
            owner.copy(text, owner.size());
            bucket.copy(text + owner.size(), bucket.size());
            sums_[count_] = {text,
                             static_cast<std::uint32_t>(owner.size()),
                             static_cast<std::uint32_t>(bucket.size()),
                             hash,
                             first,
                             last,
                             0,
                             0};
            *at = static_cast<std::uint32_t>(++count_);
        }
        latest_ = static_cast<int>(*at) - 1;
    }
    BucketSum& sum = sums_[latest_];
    sum.bytes += bytes;
    sum.files += files;
    sum.first = std::min(sum.first, first);
    sum.last = std::max(sum.last, last);
    return true;
}

BucketSum* StorageSums::find(std::string_view owner, std::string_view bucket) noexcept {
    if (count_ == 0) return nullptr;
    const std::uint32_t at = *cell(hash_of(owner, bucket), owner, bucket);
    return at == 0 ? nullptr : &sums_[at - 1];
}

}  // namespace cache_ext::api
