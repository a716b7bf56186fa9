#include "core/allocator.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

namespace cache_ext::core {
namespace {

// A region of its own: `granules` granules on the heap, so that AddressSanitizer guards both ends.
class Span {
public:
    explicit Span(std::uint32_t granules, Ref begin = 1) {
        bytes_.resize((std::size_t{begin} + granules) * kGranule);
        base_.p = bytes_.data();
        allocator_.init(base_, begin, granules);
    }
    Base base() const { return base_; }
    Allocator& operator*() { return allocator_; }
    Allocator* operator->() { return &allocator_; }
    Ref allocate(std::size_t bytes) { return allocator_.allocate(base_, bytes); }
    void free(Ref ref) { allocator_.free(base_, ref); }
    bool check() const { return allocator_.check(base_); }
    bool is_one_block() const {
        return allocator_.largest_free_bytes(base_) + Allocator::kHeaderBytes == allocator_.capacity_bytes();
    }

private:
    struct alignas(kGranule) Granule {
        std::byte bytes[kGranule];
    };
    struct Aligned {
        void resize(std::size_t n) { granules.resize(n / kGranule); }
        std::byte* data() { return granules.data()->bytes; }
        std::vector<Granule> granules;
    };
    Aligned bytes_;
    Base base_;
    Allocator allocator_;
};

TEST(Allocator, a_fresh_span_is_one_free_block) {
    Span span(1024);
    EXPECT_EQ(span->capacity_bytes(), 1023 * kGranule);
    EXPECT_EQ(span->free_bytes(), span->capacity_bytes());
    EXPECT_EQ(span->used_bytes(), 0u);
    EXPECT_TRUE(span.is_one_block());
    EXPECT_TRUE(span.check());
}

TEST(Allocator, a_span_too_small_for_a_block_holds_nothing) {
    for (std::uint32_t granules : {0u, 1u}) {
        Span span(granules);
        EXPECT_EQ(span->capacity_bytes(), 0u);
        EXPECT_EQ(span->largest_free_bytes(span.base()), 0u);
        EXPECT_EQ(span.allocate(1), kNullRef);
        EXPECT_EQ(span->allocate_upto(span.base(), 8, 1), kNullRef);
        EXPECT_TRUE(span.check());
    }
}

TEST(Allocator, the_smallest_span_holds_eight_bytes) {
    Span span(2);
    EXPECT_EQ(span.allocate(9), kNullRef);
    const Ref ref = span.allocate(8);
    ASSERT_NE(ref, kNullRef);
    EXPECT_EQ(span->usable_bytes(span.base(), ref), 8u);
    EXPECT_EQ(span.allocate(0), kNullRef);
    EXPECT_TRUE(span.check());
}

TEST(Allocator, a_span_at_the_region_start_never_hands_out_null) {
    Span span(64, 0);
    for (int i = 0; i < 63; ++i)
        ASSERT_NE(span.allocate(1), kNullRef);
    EXPECT_EQ(span.allocate(1), kNullRef);
}

TEST(Allocator, payloads_are_granule_aligned_and_hold_what_was_asked) {
    Span span(1 << 16);
    for (std::size_t bytes = 0; bytes < 700; ++bytes) {
        const Ref ref = span.allocate(bytes);
        ASSERT_NE(ref, kNullRef);
        const std::size_t usable = span->usable_bytes(span.base(), ref);
        EXPECT_GE(usable, bytes);
        EXPECT_LT(usable, bytes + kGranule + (bytes == 0 ? kGranule : 0));
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(Allocator::payload(span.base(), ref)) % kGranule, 0u);
        std::memset(Allocator::payload(span.base(), ref), 0xee, usable);
    }
    EXPECT_TRUE(span.check());
}

TEST(Allocator, accounting_includes_headers) {
    Span span(1024);
    std::size_t used = 0;
    for (std::size_t bytes : {0u, 1u, 8u, 9u, 24u, 25u, 64u, 1000u}) {
        const Ref ref = span.allocate(bytes);
        EXPECT_EQ(Allocator::footprint(bytes),
                  span->usable_bytes(span.base(), ref) + Allocator::kHeaderBytes);
        used += Allocator::footprint(bytes);
        EXPECT_EQ(span->used_bytes(), used);
        EXPECT_EQ(span->used_bytes() + span->free_bytes(), span->capacity_bytes());
    }
}

TEST(Allocator, exhaustion_returns_null_and_leaves_all_intact) {
    Span span(512);
    std::vector<Ref> refs;
    while (const Ref ref = span.allocate(100))
        refs.push_back(ref);
    EXPECT_EQ(refs.size(), 511u / 7);
    EXPECT_TRUE(span.check());
    EXPECT_LT(span->free_bytes(), Allocator::footprint(100));
}

TEST(Allocator, the_whole_span_can_be_one_allocation) {
    for (std::uint32_t granules : {2u, 31u, 32u, 33u, 34u, 64u, 65u, 66u, 67u, 1000u, 4097u}) {
        Span span(granules);
        const std::size_t all = span->largest_free_bytes(span.base());
        EXPECT_EQ(span.allocate(all + 1), kNullRef);
        const Ref ref = span.allocate(all);
        ASSERT_NE(ref, kNullRef) << granules;
        EXPECT_EQ(span->free_bytes(), 0u);
        EXPECT_EQ(span->largest_free_bytes(span.base()), 0u);
        EXPECT_TRUE(span.check());
        span.free(ref);
        EXPECT_TRUE(span.is_one_block());
    }
}

TEST(Allocator, a_size_no_span_can_hold_is_refused) {
    Span span(64);
    for (std::size_t bytes : {std::size_t{1} << 40, SIZE_MAX, SIZE_MAX - 8, SIZE_MAX - 32}) {
        EXPECT_EQ(span.allocate(bytes), kNullRef);
        EXPECT_EQ(span->allocate_upto(span.base(), bytes, bytes), kNullRef);
    }
    EXPECT_TRUE(span.is_one_block());
}

TEST(Allocator, freeing_in_any_order_coalesces_to_one_block) {
    std::mt19937 random(1);
    for (int order = 0; order < 3; ++order) {
        Span span(4096);
        std::vector<Ref> refs;
        while (const Ref ref = span.allocate(random() % 300))
            refs.push_back(ref);
        if (order == 1) std::reverse(refs.begin(), refs.end());
        if (order == 2) std::shuffle(refs.begin(), refs.end(), random);
        for (const Ref ref : refs) {
            span.free(ref);
            ASSERT_TRUE(span.check());
        }
        EXPECT_TRUE(span.is_one_block());
        EXPECT_EQ(span->used_bytes(), 0u);
    }
}

TEST(Allocator, a_freed_block_is_handed_out_again_for_the_same_size) {
    Span span(4096);
    for (std::size_t bytes : {10u, 600u, 5001u, 20003u}) {
        const Ref ref = span.allocate(bytes);
        const Ref wall = span.allocate(1);
        span.free(ref);
        EXPECT_EQ(span.allocate(bytes), ref);
        span.free(ref);
        span.free(wall);
    }
}

TEST(Allocator, freeing_null_changes_nothing) {
    Span span(64);
    span.free(kNullRef);
    EXPECT_TRUE(span.is_one_block());
    EXPECT_TRUE(span.check());
}

TEST(Allocator, freeing_twice_is_noticed_and_harmless) {
    Span span(64);
    const Ref first = span.allocate(40);
    const Ref second = span.allocate(40);
    span.free(first);
    span.free(second);
    EXPECT_TRUE(span.check());
    span.free(second);
    EXPECT_FALSE(span.check());
    EXPECT_TRUE(span.is_one_block());
    EXPECT_EQ(span->free_bytes(), span->capacity_bytes());
}

TEST(Allocator, shrink_gives_back_the_tail) {
    Span span(1024);
    const Ref ref = span.allocate(1000);
    const Ref wall = span.allocate(8);
    std::memset(Allocator::payload(span.base(), ref), 0x5a, 1000);
    span->shrink(span.base(), ref, 100);
    EXPECT_EQ(span->used_bytes(), Allocator::footprint(100) + Allocator::footprint(8));
    EXPECT_EQ(span->usable_bytes(span.base(), ref), Allocator::footprint(100) - Allocator::kHeaderBytes);
    const auto* bytes = static_cast<const unsigned char*>(Allocator::payload(span.base(), ref));
    EXPECT_TRUE(std::all_of(bytes, bytes + 100, [](unsigned char c) { return c == 0x5a; }));
    EXPECT_TRUE(span.check());
    span.free(ref);
    span.free(wall);
    EXPECT_TRUE(span.is_one_block());
}

TEST(Allocator, shrink_joins_the_tail_with_free_memory_behind) {
    Span span(1024);
    const Ref ref = span.allocate(1000);
    span->shrink(span.base(), ref, 8);
    EXPECT_EQ(span->largest_free_bytes(span.base()), span->free_bytes() - Allocator::kHeaderBytes);
    EXPECT_TRUE(span.check());
}

TEST(Allocator, shrink_never_grows) {
    Span span(1024);
    const Ref ref = span.allocate(100);
    const std::size_t usable = span->usable_bytes(span.base(), ref);
    for (std::size_t bytes : {usable, usable + 1, std::size_t{5000}, SIZE_MAX}) {
        span->shrink(span.base(), ref, bytes);
        EXPECT_EQ(span->usable_bytes(span.base(), ref), usable);
    }
    EXPECT_TRUE(span.check());
}

TEST(Allocator, upto_gives_what_is_wanted_while_it_can) {
    Span span(1024);
    const Ref ref = span->allocate_upto(span.base(), 500, 10);
    ASSERT_NE(ref, kNullRef);
    EXPECT_EQ(span->used_bytes(), Allocator::footprint(500));
}

TEST(Allocator, upto_gives_the_largest_block_when_none_is_enough) {
    Span span(200);
    const Ref a = span.allocate(300);
    const Ref wall_1 = span.allocate(8);
    const Ref b = span.allocate(900);
    const Ref wall_2 = span.allocate(8);
    while (span.allocate(8) != kNullRef) {
    }
    span.free(a);
    span.free(b);
    EXPECT_EQ(span.allocate(2000), kNullRef);
    EXPECT_EQ(span->allocate_upto(span.base(), 2000, 1000), kNullRef);
    EXPECT_EQ(span->allocate_upto(span.base(), 2000, 800), b);
    EXPECT_EQ(span->allocate_upto(span.base(), 2000, 100), a);
    EXPECT_EQ(span->allocate_upto(span.base(), 2000, 1), kNullRef);
    EXPECT_TRUE(span.check());
    span.free(wall_1);
    span.free(wall_2);
}

TEST(Allocator, upto_scatters_a_large_value_over_fragmented_memory) {
    Span span(1 << 14);
    std::mt19937 random(7);
    std::vector<Ref> refs;
    while (const Ref ref = span.allocate(64 + random() % 400))
        refs.push_back(ref);
    std::vector<Ref> kept;
    for (std::size_t i = 0; i < refs.size(); ++i) {
        if (i % 2 == 0) {
            span.free(refs[i]);
        } else {
            kept.push_back(refs[i]);
        }
    }
    const std::size_t value = span->free_bytes() / 2;
    EXPECT_EQ(span.allocate(value), kNullRef);

    std::vector<Ref> extents;
    std::size_t left = value;
    std::size_t last = SIZE_MAX;
    while (left > 0) {
        const Ref ref = span->allocate_upto(span.base(), left, 32);
        ASSERT_NE(ref, kNullRef);
        const std::size_t usable = span->usable_bytes(span.base(), ref);
        if (usable < left) {
            EXPECT_LE(usable, last + last / 32 + kGranule);  // the largest ones first
            last = usable;
        }
        std::memset(Allocator::payload(span.base(), ref), 0x77, usable);
        left -= std::min(left, usable);
        extents.push_back(ref);
    }
    EXPECT_TRUE(span.check());
    for (const Ref ref : extents)
        span.free(ref);
    for (const Ref ref : kept)
        span.free(ref);
    EXPECT_TRUE(span.is_one_block());
}

TEST(Allocator, fail_after_fails_every_allocation_from_the_chosen_one_on) {
    for (std::int64_t successes = 0; successes < 4; ++successes) {
        Span span(64);
        span->fail_after(successes);
        std::vector<Ref> refs;
        for (std::int64_t i = 0; i < successes; ++i) {
            refs.push_back(i % 2 ? span.allocate(8) : span->allocate_upto(span.base(), 8, 8));
            EXPECT_NE(refs.back(), kNullRef);
        }
        EXPECT_EQ(span.allocate(8), kNullRef);
        EXPECT_EQ(span->allocate_upto(span.base(), 8, 8), kNullRef);
        for (const Ref ref : refs)
            span.free(ref);
        EXPECT_TRUE(span.is_one_block());
        span->fail_after(-1);
        EXPECT_NE(span.allocate(8), kNullRef);
    }
}

TEST(Allocator, survives_being_mapped_at_another_address) {
    Span span(256);
    const Ref ref = span.allocate(100);
    std::vector<std::byte> copy(257 * kGranule + kGranule);
    auto* p = copy.data();
    while (reinterpret_cast<std::uintptr_t>(p) % kGranule != 0)
        ++p;
    std::memcpy(p, span.base().p, 257 * kGranule);
    const Base elsewhere{p};
    Allocator moved = *span;
    EXPECT_TRUE(moved.check(elsewhere));
    moved.free(elsewhere, ref);
    EXPECT_TRUE(moved.check(elsewhere));
    EXPECT_EQ(moved.used_bytes(), 0u);
}

TEST(Allocator, check_notices_a_damaged_header) {
    Span span(256);
    const Ref ref = span.allocate(100);
    ASSERT_NE(span.allocate(100), kNullRef);
    ASSERT_TRUE(span.check());
    std::byte& low = *(span.base().at<std::byte>(ref) - Allocator::kHeaderBytes);
    const std::byte kept = low;
    for (int value = 0; value < 256; ++value) {
        low = static_cast<std::byte>(value);
        EXPECT_EQ(span.check(), low == kept) << value;
    }
}

TEST(Allocator, spans_the_whole_reach_of_a_ref) {
    constexpr std::size_t kBytes = std::size_t{64} << 30;
    void* memory =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) GTEST_SKIP() << "this machine does not map 64 GB of address space";
    const Base base{static_cast<std::byte*>(memory)};
    Allocator allocator;
    allocator.init(base, 16, UINT32_MAX);
    EXPECT_TRUE(allocator.check(base));
    EXPECT_GT(allocator.capacity_bytes(), kBytes - 512);
    EXPECT_LE(allocator.capacity_bytes(), kBytes - 256);
    std::vector<Ref> refs;
    while (const Ref ref = allocator.allocate(base, std::size_t{5} << 30)) {
        ASSERT_LE(std::size_t{ref} * kGranule + (std::size_t{5} << 30), kBytes);
        *base.at<char>(ref) = 1;
        refs.push_back(ref);
    }
    EXPECT_EQ(refs.size(), 12u);
    EXPECT_TRUE(allocator.check(base));
    for (std::size_t i = 0; i < refs.size(); i += 2)
        allocator.free(base, refs[i]);
    for (std::size_t i = 1; i < refs.size(); i += 2)
        allocator.free(base, refs[i]);
    EXPECT_TRUE(allocator.check(base));
    EXPECT_EQ(allocator.used_bytes(), 0u);
    EXPECT_EQ(allocator.largest_free_bytes(base) + Allocator::kHeaderBytes,
              std::size_t{Allocator::kMaxBlockGranules} * kGranule);
    munmap(memory, kBytes);
}

// Every operation in a random order, against a map of what is held and what was written there.
TEST(Allocator, agrees_with_a_model_under_random_operations) {
    for (unsigned seed = 1; seed <= 8; ++seed) {
        std::mt19937 random(seed);
        Span span(500u << (seed % 5));
        struct Held {
            std::size_t usable;
            unsigned char fill;
        };
        std::map<Ref, Held> held;
        auto intact = [&](Ref ref, const Held& h) {
            const auto* p = static_cast<const unsigned char*>(Allocator::payload(span.base(), ref));
            return std::all_of(p, p + h.usable, [&](unsigned char c) { return c == h.fill; });
        };
        auto hold = [&](Ref ref) {
            const Held h{span->usable_bytes(span.base(), ref), static_cast<unsigned char>(random())};
            const auto behind = held.upper_bound(ref);
            if (behind != held.end()) {
                ASSERT_LE(ref * kGranule + h.usable + Allocator::kHeaderBytes, behind->first * kGranule);
            }
            std::memset(Allocator::payload(span.base(), ref), h.fill, h.usable);
            ASSERT_TRUE(held.emplace(ref, h).second);
        };
        for (int step = 0; step < 6000; ++step) {
            const unsigned what = random() % 100;
            const std::size_t bytes = random() % (random() % 8 == 0 ? 4000 : 300);
            if (what < 45) {
                const std::size_t largest = span->largest_free_bytes(span.base());
                if (const Ref ref = span.allocate(bytes)) {
                    EXPECT_GE(span->usable_bytes(span.base(), ref), bytes);
                    hold(ref);
                } else {
                    EXPECT_LT(largest, bytes + bytes / 32 + kGranule);
                }
            } else if (what < 55) {
                const std::size_t least = random() % (bytes + 1);
                if (const Ref ref = span->allocate_upto(span.base(), bytes, least)) {
                    EXPECT_GE(span->usable_bytes(span.base(), ref), least);
                    hold(ref);
                }
            } else if (!held.empty()) {
                auto it = held.lower_bound(static_cast<Ref>(random() % 16000));
                if (it == held.end()) it = held.begin();
                ASSERT_TRUE(intact(it->first, it->second));
                if (what < 92) {
                    span.free(it->first);
                    held.erase(it);
                } else {
                    span->shrink(span.base(), it->first, bytes);
                    const std::size_t usable = span->usable_bytes(span.base(), it->first);
                    EXPECT_LE(usable, it->second.usable);
                    EXPECT_GE(usable, std::min(bytes, it->second.usable));
                    it->second.usable = usable;
                }
            }
            std::size_t used = 0;
            for (const auto& [ref, h] : held)
                used += h.usable + Allocator::kHeaderBytes;
            ASSERT_EQ(span->used_bytes(), used);
            if (step % 16 == 0) {
                ASSERT_TRUE(span.check());
            }
        }
        for (const auto& [ref, h] : held) {
            ASSERT_TRUE(intact(ref, h));
            span.free(ref);
        }
        EXPECT_TRUE(span.check());
        EXPECT_TRUE(span.is_one_block());
    }
}

}  // namespace
}  // namespace cache_ext::core
