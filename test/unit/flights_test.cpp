#include "core/flights.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

constexpr std::uint32_t kSessions = 200;

struct World {
    TestRegion r{0, kSessions};
    std::vector<std::uint32_t> woken;

    Flights& flights() { return r.region.flights(); }
    Boarding board(std::uint32_t session, std::uint64_t key, std::uint32_t& flight, bool may_lead = true,
                   bool may_wait = true) {
        return flights().board(r.base(), {session, 1000 + session}, key, may_lead, may_wait, flight);
    }
    Boarding board(std::uint32_t session, std::uint64_t key) {
        std::uint32_t flight = 0;
        return board(session, key, flight);
    }
    void land(std::uint32_t flight, Landing how) {
        woken.clear();
        flights().land(r.base(), flight, how, [this](std::uint32_t process) { woken.push_back(process); });
    }
    Landing landing(std::uint32_t session) { return flights().landing(r.base(), session); }
};

TEST(Flights, OneLeadsAndTheOthersAreTold) {
    World w;
    std::uint32_t flight = 0;
    ASSERT_EQ(w.board(0, 7, flight), Boarding::kLeads);
    for (std::uint32_t session = 1; session <= 130; ++session)
        ASSERT_EQ(w.board(session, 7), Boarding::kWaits);
    EXPECT_EQ(w.landing(5), Landing::kNotYet);
    w.land(flight, Landing::kStored);
    EXPECT_EQ(w.woken.size(), 130U);
    EXPECT_EQ(std::set<std::uint32_t>(w.woken.begin(), w.woken.end()).size(), 130U);
    for (std::uint32_t session = 1; session <= 130; ++session)
        EXPECT_EQ(w.landing(session), Landing::kStored);
    EXPECT_EQ(w.board(9, 7), Boarding::kLeads) << "it is over";
}

TEST(Flights, WhatHasFailedRests) {
    World w;
    constexpr Timestamp kSecond = 1'000'000;
    constexpr Timestamp kFailed = 1000 * kSecond;
    Flights& f = w.flights();
    EXPECT_FALSE(f.rests(7, kFailed, kSecond)) << "nothing has failed";
    f.note_failure(7, kFailed, 1000);
    EXPECT_TRUE(f.rests(7, kFailed, kSecond));
    EXPECT_TRUE(f.rests(7, kFailed + kSecond - 1, kSecond));
    EXPECT_FALSE(f.rests(7, kFailed + kSecond, kSecond));
    EXPECT_TRUE(f.rests(7, kFailed + kSecond, 2 * kSecond)) << "who asks says for how long";
    EXPECT_FALSE(f.rests(7, kFailed, 0));
    EXPECT_FALSE(f.rests(8, kFailed, kSecond)) << "another key";
    EXPECT_FALSE(f.rests(7, kFailed - 1, kSecond)) << "the clock was set back";
    // What takes long rests longer.
    f.note_failure(7, kFailed, 3 * kSecond);
    EXPECT_TRUE(f.rests(7, kFailed + 30 * kSecond - 1, kSecond));
    EXPECT_FALSE(f.rests(7, kFailed + 30 * kSecond, kSecond));
    f.note_failure(7, kFailed, 3600 * kSecond);
    EXPECT_TRUE(f.rests(7, kFailed + 60 * kSecond - 1, kSecond));
    EXPECT_FALSE(f.rests(7, kFailed + 60 * kSecond, kSecond)) << "a minute at most";
    EXPECT_TRUE(f.rests(7, kFailed + 60 * kSecond, 90 * kSecond));
}

TEST(Flights, AsManyAsAreToldAtOnce) {
    for (const std::uint32_t waiting : {0U, 1U, 63U, 64U, 65U, 128U}) {
        World w;
        std::uint32_t flight = 0;
        ASSERT_EQ(w.board(0, 7, flight), Boarding::kLeads);
        for (std::uint32_t session = 1; session <= waiting; ++session)
            ASSERT_EQ(w.board(session, 7), Boarding::kWaits);
        w.land(flight, Landing::kFailed);
        EXPECT_EQ(w.woken.size(), waiting);
        EXPECT_EQ(w.board(1, 7), Boarding::kLeads);
    }
}

TEST(Flights, KeysDoNotMeet) {
    World w;
    EXPECT_EQ(w.board(0, 7), Boarding::kLeads);
    EXPECT_EQ(w.board(1, 7 + Flights::kFlights), Boarding::kLeads) << "the same place";
    EXPECT_EQ(w.board(2, 8), Boarding::kLeads);
}

TEST(Flights, ThereIsRoomForSoMany) {
    World w;
    std::uint32_t led = 0;
    std::uint32_t flights[20];
    for (; led < 20 &&
           w.board(led, 7 + std::uint64_t{led} * Flights::kFlights, flights[led]) == Boarding::kLeads;)
        ++led;
    EXPECT_EQ(led, 8U);
    EXPECT_EQ(w.board(30, 7 + 100 * std::uint64_t{Flights::kFlights}), Boarding::kAlone);
    w.land(flights[3], Landing::kStored);
    EXPECT_EQ(w.board(30, 7 + 100 * std::uint64_t{Flights::kFlights}), Boarding::kLeads);
}

TEST(Flights, WhoMayNotWaitIsToldThatSomebodyLeads) {
    World w;
    std::uint32_t flight = 0;
    EXPECT_EQ(w.board(1, 7, flight, false, true), Boarding::kAlone) << "nobody leads, nor may it";
    EXPECT_EQ(w.board(0, 7), Boarding::kLeads);
    EXPECT_EQ(w.board(1, 7, flight, true, false), Boarding::kTaken);
    EXPECT_EQ(w.board(1, 7, flight, false, true), Boarding::kWaits);
}

TEST(Flights, NobodyWaitsForItself) {
    World w;
    EXPECT_EQ(w.board(0, 7), Boarding::kLeads);
    EXPECT_EQ(w.board(0, 7), Boarding::kTaken);
}

TEST(Flights, NobodyClosesACircle) {
    World w;
    std::uint32_t flights[4];
    for (std::uint32_t session = 0; session < 4; ++session)
        ASSERT_EQ(w.board(session, 100 + session, flights[session]), Boarding::kLeads);
    ASSERT_EQ(w.board(0, 101), Boarding::kWaits);
    ASSERT_EQ(w.board(1, 102), Boarding::kWaits);
    ASSERT_EQ(w.board(2, 103), Boarding::kWaits);
    EXPECT_EQ(w.board(3, 100), Boarding::kTaken);
    EXPECT_EQ(w.board(3, 102), Boarding::kTaken);
    std::uint32_t processes[8];
    ASSERT_EQ(w.flights().leaders(w.r.base(), 0, processes), 3U);
    EXPECT_EQ(processes[0], 1001U);
    EXPECT_EQ(processes[2], 1003U);
    // The circle is open again where somebody gives up.
    EXPECT_EQ(w.flights().leave(w.r.base(), 1), Landing::kNotYet);
    EXPECT_EQ(w.board(3, 100), Boarding::kWaits);
    EXPECT_EQ(w.board(1, 102), Boarding::kTaken);
}

TEST(Flights, WhoLeavesIsNotTold) {
    World w;
    std::uint32_t flight = 0;
    ASSERT_EQ(w.board(0, 7, flight), Boarding::kLeads);
    for (std::uint32_t session = 1; session <= 3; ++session)
        ASSERT_EQ(w.board(session, 7), Boarding::kWaits);
    EXPECT_EQ(w.flights().leave(w.r.base(), 2), Landing::kNotYet);
    w.land(flight, Landing::kNotStored);
    EXPECT_EQ(w.woken, (std::vector<std::uint32_t>{1003, 1001}));
    EXPECT_EQ(w.landing(2), Landing::kNotYet);
    EXPECT_EQ(w.flights().leave(w.r.base(), 1), Landing::kNotStored) << "it has landed before";
}

TEST(Flights, ASessionThatEndsFails) {
    World w;
    std::uint32_t flight = 0;
    ASSERT_EQ(w.board(0, 7, flight), Boarding::kLeads);
    ASSERT_EQ(w.board(0, 8, flight), Boarding::kLeads);
    ASSERT_EQ(w.board(1, 7), Boarding::kWaits);
    ASSERT_EQ(w.board(2, 8), Boarding::kWaits);
    ASSERT_EQ(w.board(3, 9, flight), Boarding::kLeads);
    ASSERT_EQ(w.board(0, 9), Boarding::kWaits);
    w.flights().end_session(w.r.base(), 0, [&](std::uint32_t process) { w.woken.push_back(process); });
    EXPECT_EQ(w.woken.size(), 2U);
    EXPECT_EQ(w.landing(1), Landing::kFailed);
    EXPECT_EQ(w.landing(2), Landing::kFailed);
    w.land(flight, Landing::kStored);
    EXPECT_TRUE(w.woken.empty()) << "it waited for nothing any more";
    EXPECT_EQ(w.board(1, 7), Boarding::kLeads);
    EXPECT_EQ(w.board(2, 8), Boarding::kLeads);
}

/// Threads that compute, nested, in all orders; each flight has one leader at a time, and nobody is left waiting.
TEST(Flights, UnderLoad) {
    constexpr std::uint32_t kThreads = 8;
    constexpr std::uint64_t kKeys = 4;
    World w;
    std::atomic<int> inside[kKeys]{};
    std::atomic<bool> awake[kSessions]{};
    std::atomic<std::uint64_t> led{0};
    std::atomic<std::uint64_t> shared{0};
    const auto rounds = static_cast<int>(4000 * test_scale());
    const auto wake = [&](std::uint32_t process) { awake[process].store(true, std::memory_order_release); };

    std::barrier begin(kThreads);
    const auto work = [&](std::uint32_t session) {
        std::mt19937 random(session);
        begin.arrive_and_wait();
        const auto compute = [&](auto&& self, int depth) -> void {
            const std::uint64_t key = random() % kKeys;
            std::uint32_t flight = 0;
            awake[session].store(false, std::memory_order_relaxed);
            switch (w.flights().board(w.r.base(), {session, session}, key, true, true, flight)) {
                case Boarding::kLeads:
                    ASSERT_EQ(inside[key].fetch_add(1), 0);
                    // So that others come meanwhile, on however few processors.
                    if (random() % 16 == 0) std::this_thread::yield();
                    if (depth < 3) self(self, depth + 1);
                    ASSERT_EQ(inside[key].fetch_sub(1), 1);
                    led.fetch_add(1);
                    if (random() % 50 == 0) {
                        w.flights().land(w.r.base(), flight, Landing::kFailed, wake);
                    } else {
                        w.flights().land(w.r.base(), flight, Landing::kStored, wake);
                    }
                    break;
                case Boarding::kWaits:
                    if (random() % 10 == 0) {
                        w.flights().leave(w.r.base(), session);
                        break;
                    }
                    while (!awake[session].load(std::memory_order_acquire))
                        std::this_thread::yield();
                    ASSERT_NE(w.flights().landing(w.r.base(), session), Landing::kNotYet);
                    shared.fetch_add(1);
                    break;
                default:
                    break;
            }
        };
        for (int i = 0; i < rounds; ++i)
            compute(compute, 0);
    };
    std::vector<std::thread> threads;
    for (std::uint32_t session = 0; session < kThreads; ++session)
        threads.emplace_back(work, session);
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_GT(led.load(), 0U);
    EXPECT_GT(shared.load(), 0U);
    for (std::uint64_t key = 0; key < kKeys; ++key)
        EXPECT_EQ(w.board(static_cast<std::uint32_t>(key), key), Boarding::kLeads);
}

}  // namespace
}  // namespace cache_ext::core
