#pragma once

// Sums by owner and bucket, and by the commands that made them.

#include <string_view>

#include "pg/prelude.hpp"

namespace cache_ext::api {

/// What is known of one owner's objects in one bucket: a sum, or a difference.
struct BucketSum {
    char* text;  ///< the owner and the bucket, one after the other
    std::uint32_t owner_bytes;
    std::uint32_t bucket_bytes;
    std::uint32_t hash;
    CommandId first;  ///< the commands of this transaction that changed it
    CommandId last;
    int128 bytes;
    std::int64_t files;

    std::string_view owner() const noexcept { return {text, owner_bytes}; }
    std::string_view bucket() const noexcept { return {text + owner_bytes, bucket_bytes}; }
    bool is_zero() const noexcept { return bytes == 0 && files == 0; }
};

/// A hash table in a memory context of the server's, so that it goes with that wherever an ERROR leads. Raises nothing. Trivially copyable; a copy is the same table.
class StorageSums {
public:
    /// In this context, which outlives it.
    static StorageSums make(MemoryContext memory) noexcept;

    /// Adds to a sum. False: there is no memory, and it is as it was.
    bool add(std::string_view owner, std::string_view bucket, int128 bytes, std::int64_t files,
             CommandId first = 0, CommandId last = 0) noexcept;

    int count() const noexcept { return count_; }
    /// In the order in which they were first added to. Valid until the next call of add.
    BucketSum& at(int i) noexcept { return sums_[i]; }
    const BucketSum& at(int i) const noexcept { return sums_[i]; }
    const BucketSum* begin() const noexcept { return sums_; }
    const BucketSum* end() const noexcept { return sums_ + count_; }

    /// That of an owner and a bucket, or null.
    BucketSum* find(std::string_view owner, std::string_view bucket) noexcept;

private:
    std::uint32_t* cell(std::uint32_t hash, std::string_view owner, std::string_view bucket) noexcept;
    bool grow() noexcept;

    MemoryContext memory_;
    BucketSum* sums_;
    std::uint32_t* cells_;  // 1 + the number of a sum, 0 = free; twice as many as there is room for sums
    int count_;
    int room_;
    int latest_;  // rows come in runs
};

}  // namespace cache_ext::api
