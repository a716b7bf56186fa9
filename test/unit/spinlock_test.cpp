#include "core/spinlock.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace cache_ext::core {
namespace {

TEST(SpinLock, zeroed_memory_is_a_free_lock) {
    alignas(SpinLock) unsigned char memory[sizeof(SpinLock)];
    std::memset(memory, 0, sizeof memory);
    auto* lock = std::launder(reinterpret_cast<SpinLock*>(memory));
    EXPECT_FALSE(lock->is_locked());
    EXPECT_TRUE(lock->try_lock());
    EXPECT_TRUE(lock->is_locked());
    lock->unlock();
    const unsigned char zero[sizeof(SpinLock)] = {};
    EXPECT_EQ(std::memcmp(memory, zero, sizeof memory), 0);
}

TEST(SpinLock, try_lock_fails_while_it_is_held) {
    SpinLock lock;
    {
        std::lock_guard guard(lock);
        EXPECT_FALSE(lock.try_lock());
    }
    EXPECT_TRUE(lock.try_lock());
    lock.unlock();
}

TEST(SpinLock, threads_exclude_one_another) {
    SpinLock lock;
    constexpr int kThreads = 4;
    constexpr int kRounds = 50000;
    long long plain = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < kRounds; ++round) {
                std::lock_guard guard(lock);
                ++plain;
            }
        });
    }
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(plain, static_cast<long long>(kThreads) * kRounds);
    EXPECT_FALSE(lock.is_locked());
}

TEST(SpinLock, waiters_get_it_when_the_holder_loses_its_processor) {
    SpinLock lock;
    long long plain = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < 300; ++round) {
                std::lock_guard guard(lock);
                sched_yield();
                ++plain;
            }
        });
    }
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(plain, 1200);
}

TEST(SpinLock, waiting_and_waking_leave_errno_alone) {
    SpinLock lock;
    lock.lock();
    std::atomic<bool> there = false;
    std::thread waiter([&] {
        errno = EDOM;
        there = true;
        lock.lock();
        EXPECT_EQ(errno, EDOM);
        lock.unlock();
        EXPECT_EQ(errno, EDOM);
    });
    while (!there)
        sched_yield();
    for (int i = 0; i < 1000; ++i)
        sched_yield();
    errno = ERANGE;
    lock.unlock();
    EXPECT_EQ(errno, ERANGE);
    waiter.join();
}

struct Shared {
    SpinLock lock;
    long long counter;
};

Shared* map_shared() {
    void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<Shared*>(memory);
}

TEST(SpinLock, processes_exclude_one_another) {
    Shared* shared = map_shared();
    ASSERT_NE(shared, nullptr);
    constexpr int kProcesses = 4;
    constexpr int kRounds = 20000;
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            for (int round = 0; round < kRounds; ++round) {
                std::lock_guard guard(shared->lock);
                ++shared->counter;
                if (round % 1000 == 0) sched_yield();
            }
            _exit(0);
        }
        children.push_back(child);
    }
    for (const pid_t child : children) {
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    EXPECT_EQ(shared->counter, static_cast<long long>(kProcesses) * kRounds);
    EXPECT_FALSE(shared->lock.is_locked());
    munmap(shared, sizeof(Shared));
}

TEST(SpinLock, a_process_is_woken_by_another) {
    Shared* shared = map_shared();
    ASSERT_NE(shared, nullptr);
    shared->lock.lock();
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        std::lock_guard guard(shared->lock);
        shared->counter = 1;
        _exit(0);
    }
    for (int i = 0; i < 1000; ++i)
        sched_yield();
    EXPECT_EQ(__atomic_load_n(&shared->counter, __ATOMIC_RELAXED), 0);
    shared->lock.unlock();
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(shared->counter, 1);
    munmap(shared, sizeof(Shared));
}

// What the server relies on: a signal reaches a waiter, whose handler may end the process.
TEST(SpinLock, a_waiter_can_be_ended_by_a_signal) {
    Shared* shared = map_shared();
    ASSERT_NE(shared, nullptr);
    shared->lock.lock();
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        signal(SIGQUIT, [](int) { _exit(7); });
        __atomic_store_n(&shared->counter, 1, __ATOMIC_RELEASE);
        shared->lock.lock();
        _exit(0);
    }
    while (__atomic_load_n(&shared->counter, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
    for (int i = 0; i < 1000; ++i)
        sched_yield();
    kill(child, SIGQUIT);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    shared->lock.unlock();
    munmap(shared, sizeof(Shared));
}

}  // namespace
}  // namespace cache_ext::core
