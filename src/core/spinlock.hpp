// A lock of four bytes for shared memory, held for some hundred instructions at a time.
//
// Who may hold it: code that calls nothing which can fail, wait, raise an error, longjmp out or look at
// interrupts; so no PostgreSQL function, and no system call but the wait in here. Whoever holds it must
// reach unlock() by running straight on. It is not recursive.
//
// If a holder dies inside, the lock stays taken. That is sound in a server: when a process ends without
// cleaning up, the postmaster ends all others and makes shared memory anew, this lock with it.
//
// A waiter spins for a few microseconds, then lets the kernel wake it (Linux: a futex that works across
// processes) or sleeps for short times (elsewhere), so that a holder who lost its processor gets it back.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#else
#include <time.h>
#endif

namespace cache_ext::core {

// Satisfies Lockable. Memory set to zero is a free lock, so it needs no construction in the region.
class SpinLock {
public:
    void lock() noexcept {
        std::uint32_t expected = kFree;
        if (!word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire,
                                           std::memory_order_relaxed)) [[unlikely]] {
            lock_slow();
        }
    }

    // True if the lock was free and is now held by the caller.
    [[nodiscard]] bool try_lock() noexcept {
        std::uint32_t expected = kFree;
        return word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire,
                                             std::memory_order_relaxed);
    }

    // Only by the holder.
    void unlock() noexcept {
        if (word_.exchange(kFree, std::memory_order_release) == kContended) [[unlikely]]
            wake_one();
    }

    // Whether anyone holds it; already out of date when the caller sees it. For assertions and statistics.
    [[nodiscard]] bool is_locked() const noexcept { return word_.load(std::memory_order_relaxed) != kFree; }

private:
    static constexpr std::uint32_t kFree = 0;
    static constexpr std::uint32_t kHeld = 1;
    static constexpr std::uint32_t kContended = 2;  // held, and someone may be waiting in the kernel

    // Spinning ends after the pauses of 1, 2, 4, ... 2^kSpinRounds - 1: a few microseconds.
    static constexpr int kSpinRounds = 7;

    static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ __volatile__("isb" ::: "memory");
#endif
    }

    [[gnu::noinline, gnu::cold]] void lock_slow() noexcept {
        for (int round = 0; round < kSpinRounds; ++round) {
            for (int i = 0; i < (1 << round); ++i)
                pause();
            const std::uint32_t seen = word_.load(std::memory_order_relaxed);
            if (seen == kFree && try_lock()) return;
            if (seen == kContended) break;  // others wait already: no use in burning a processor
        }
        // Whoever comes through here takes the lock as contended: it cannot know whether another still waits,
        // and a wake-up too many is harmless where one too few would be a hang.
        while (word_.exchange(kContended, std::memory_order_acquire) != kFree)
            wait();
    }

#if defined(__linux__)
    // Without FUTEX_PRIVATE_FLAG: the waiters are in different processes. errno belongs to the caller.
    void wait() noexcept {
        const int kept = errno;
        syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word_), FUTEX_WAIT, kContended, nullptr, nullptr,
                0);
        errno = kept;
    }
    [[gnu::noinline, gnu::cold]] void wake_one() noexcept {
        const int kept = errno;
        syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word_), FUTEX_WAKE, 1, nullptr, nullptr, 0);
        errno = kept;
    }
#else
    void wait() noexcept {
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
    void wake_one() noexcept {}
#endif

    std::atomic<std::uint32_t> word_{kFree};
};

static_assert(sizeof(SpinLock) == 4 && std::is_standard_layout_v<SpinLock>);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace cache_ext::core
