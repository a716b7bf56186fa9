// Many sessions over one tiny region, around a simulated transaction system. The oracle: what a reader is served equals what computing the
// value under its own snapshot gives; no older, no newer.
//
// That the oracle can fail is itself tested: each `Break` violates one rule of the protocol, and must be found out.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

enum class Break {
    kNone,
    kStampAfterVisible,  ///< the version is taken when others can see the write already
    kBirthAtPut,  ///< the birth is the clock at the time of storing, not that of the snapshot that computed
    kOwnBirthUnchecked,  ///< a value set by the writing transaction is born at its stamp, whatever else ran
    kVersionBeforeClock,  ///< the clock moves on, and shows nobody pending, before the tags have the version and without a registration
};

struct Snapshot {
    FullXid xmin = 0;
    FullXid xmax = 0;
    std::uint32_t xcnt = 0;
    FullXid own = 0;
    std::vector<FullXid> running;

    SnapshotView view(bool own_finished = false) const {
        SnapshotView v;
        v.xmin = xmin;
        v.xmax = xmax;
        v.xcnt = xcnt;
        v.own_xid = own;
        v.own_finished = own_finished;
        v.context = this;
        v.running = [](const void* self, FullXid xid) {
            const auto& list = static_cast<const Snapshot*>(self)->running;
            return std::find(list.begin(), list.end(), xid) != list.end();
        };
        return v;
    }
};

/// Rows with all their versions, and the transactions that wrote them: what a server has.
class Database {
public:
    static constexpr unsigned kRows = 12;
    static constexpr FullXid kFirstXid = 1000;
    static constexpr std::size_t kMaxXids = 4'000'000;

    FullXid begin() {
        std::lock_guard guard(lock_);
        running_.push_back(next_);
        return next_++;
    }
    bool exhausted() const {
        std::lock_guard guard(lock_);
        return next_ - kFirstXid + 64 > kMaxXids;
    }
    void finish(FullXid xid, bool committed) {
        outcome_[xid - kFirstXid].store(committed ? 1 : 2, std::memory_order_relaxed);
        std::lock_guard guard(lock_);
        std::erase(running_, xid);
        latest_ = std::max(latest_, xid);
    }
    Snapshot snapshot(FullXid own = 0) const {
        std::lock_guard guard(lock_);
        Snapshot s;
        s.xmax = latest_ + 1;
        s.xmin = s.xmax;
        s.own = own;
        for (const FullXid xid : running_) {
            if (xid >= s.xmax) continue;
            ++s.xcnt;
            s.xmin = std::min(s.xmin, xid);
            if (xid != own) s.running.push_back(xid);
        }
        if (own != 0) s.xmin = std::min(s.xmin, own);
        return s;
    }
    /// Only by a transaction that holds the row's writer lock, until it ends.
    void write(unsigned row, FullXid xid) {
        std::lock_guard guard(rows_[row].lock);
        rows_[row].history.push_back({xid, ++rows_[row].newest});
    }
    std::uint64_t read(unsigned row, const Snapshot& s) const {
        const SnapshotView view = s.view();
        std::lock_guard guard(rows_[row].lock);
        const auto& history = rows_[row].history;
        for (auto at = history.rbegin(); at != history.rend(); ++at) {
            if (at->xid == s.own) return at->value;
            if (view.finished(at->xid) && outcome_[at->xid - kFirstXid].load(std::memory_order_relaxed) == 1)
                return at->value;
        }
        return 0;
    }
    std::mutex& writer_lock(unsigned row) { return rows_[row].writer; }

private:
    struct Written {
        FullXid xid;
        std::uint64_t value;
    };
    struct Row {
        std::mutex writer;
        mutable std::mutex lock;
        std::vector<Written> history;
        std::uint64_t newest = 0;
    };
    mutable std::mutex lock_;
    std::vector<FullXid> running_;
    FullXid next_ = kFirstXid;
    FullXid latest_ = kFirstXid - 1;
    std::array<Row, kRows> rows_;
    std::unique_ptr<std::atomic<std::uint8_t>[]> outcome_ =
        std::make_unique<std::atomic<std::uint8_t>[]>(kMaxXids);
};

/// What is cached: how an item is called, what it is computed from, and what its writers invalidate.
struct Item {
    enum Kind : unsigned { kByTags, kByKey, kByPattern, kBySpace };
    unsigned number;
    Kind kind;
    Scope scope;
    std::string key;
    std::vector<unsigned> rows;
    std::vector<std::string> tags;

    static constexpr unsigned kKeyed = 12;  // how many are invalidated by their key
    static Kind kind_of(unsigned n) {
        if (n % 8 == 5) return n / 8 < kKeyed ? kByKey : kByTags;
        return n % 8 < 5 ? kByTags : n % 8 == 6 ? kByPattern : kBySpace;
    }

    explicit Item(unsigned n) : number(n), kind(kind_of(n)) {
        const unsigned m = n / 8;
        switch (kind) {
            case kByTags:
                // Some tags are carried by one item only, so that their slots come and go with it.
                scope = m % 3 == 0 ? private_scope(10 + m % 4, m % 2) : shared_scope(1);
                key = "tagged:" + std::to_string(n);
                for (unsigned i = 0; i <= n % 3; ++i) {
                    rows.push_back((n * 5 + i * 3) % Database::kRows);
                    tags.push_back("row" + std::to_string(rows.back()));
                }
                break;
            case kByKey:
                scope = m % 4 < 2 ? private_scope(10 + m % 4, m % 2) : shared_scope(1);
                rows = {4 + m % 2};
                key = "key:" + std::to_string(rows[0]) + ":" + std::to_string(m / 2);
                break;
            case kByPattern:
                scope = shared_scope(1);
                rows = {6 + m % 2};
                key = "p" + std::to_string(rows[0]) + ":" + std::to_string(n);
                break;
            case kBySpace:
                scope = shared_scope(2 + m % 2, 1);
                rows = {8};
                key = "spaced:" + std::to_string(n);
                break;
        }
    }
};

class Stress {
public:
    static constexpr unsigned kItems = 400;
    static constexpr unsigned kSessions = 8;

    /// Between two transactions of a writer readers do up to `pause` operations, now and then many more.
    Stress(Break what, unsigned seed, unsigned pause = 60)
        : broken_(what), seed_(seed), pause_(pause), r_(0, kSessions, 2, seed) {
        for (unsigned i = 0; i < kItems; ++i)
            items_.emplace_back(i);
        for (const Item& item : items_) {
            if (item.scope.is_private) r_.known(item.scope);
        }
    }

    void run(unsigned readers, unsigned writers, unsigned operations) {
        std::vector<std::thread> threads;
        std::atomic<unsigned> reading{readers};
        unsigned session = 0;
        for (unsigned i = 0; i < readers; ++i, ++session) {
            threads.emplace_back([this, session, operations, &reading] {
                read(view(session), session, operations);
                if (--reading == 0) stop_ = true;
            });
        }
        for (unsigned i = 0; i < writers; ++i, ++session) {
            threads.emplace_back([this, session] { write(view(session), session); });
        }
        threads.emplace_back([this, session] { keep_house(view(session), session); });
        for (auto& thread : threads)
            thread.join();
    }

    /// After all have stopped: nothing is lost, and the cache works.
    void expect_sound() {
        ASSERT_NO_FATAL_FAILURE(r_.audit());
        const Snapshot s = db_.snapshot();
        ASSERT_EQ(r_.region.clock().of(s.view()), r_.now());
        for (const Item& item : items_) {
            const std::string value = compute(item, s, r_.now());
            ASSERT_EQ(put(r_.region, 0, item, value, r_.now()), Put::kStored);
            ASSERT_EQ(r_.get(item.scope, item.key, r_.now()), value);
        }
        r_.remove_all();
        ASSERT_NO_FATAL_FAILURE(r_.audit());
    }

    TestRegion& region() { return r_; }
    std::string failure() {
        std::lock_guard guard(failure_lock_);
        return failure_;
    }

    std::atomic<std::uint64_t> hits{0}, stored{0}, late{0}, torn{0}, truncated{0}, own_stored{0},
        scattered{0}, old_hits{0};

private:
    Region view(unsigned session) {
#if defined(__SANITIZE_THREAD__)
        // ThreadSanitizer knows memory by its address.
        (void)session;
        return r_.region;
#else
        std::lock_guard guard(failure_lock_);
        return session % 2 == 0 ? r_.region : r_.second_view();
#endif
    }

    void fail(const std::string& text) {
        std::lock_guard guard(failure_lock_);
        if (failure_.empty()) failure_ = text;
        stop_ = true;
    }

    // A value: the item's number, its birth, what each of its rows had, and bytes that follow from all these.
    static std::uint64_t size_of(const Item& item, std::uint64_t salt) {
        const std::uint64_t n = (item.number * 2654435761U + salt * 40503U) % 1000;
        return n < 30 ? 4000 + n * 400 : n * 2;
    }
    std::string compute(const Item& item, const Snapshot& s, Version birth) const {
        std::vector<std::uint64_t> words{item.number, birth};
        std::uint64_t salt = 0;
        for (const unsigned row : item.rows) {
            words.push_back(db_.read(row, s));
            salt = salt * 31 + words.back();
        }
        std::string value(words.size() * 8 + size_of(item, salt), '\0');
        std::memcpy(value.data(), words.data(), words.size() * 8);
        for (std::size_t i = words.size() * 8; i < value.size(); ++i)
            value[i] = static_cast<char>(salt + i * 7 + item.number);
        return value;
    }
    static std::string show(const Item& item, std::string_view value) {
        std::string text = item.key + " of " + std::to_string(value.size()) + " bytes:";
        for (std::size_t i = 0; i + 8 <= value.size() && i < (2 + item.rows.size()) * 8; i += 8) {
            std::uint64_t word;
            std::memcpy(&word, value.data() + i, 8);
            text += " " + std::to_string(word);
        }
        return text;
    }

    Put put(const Region& region, unsigned session, const Item& item, const std::string& value,
            Version birth) {
        Store& store = region.store();
        std::vector<TagName> tags;
        for (const std::string& text : item.tags)
            tags.push_back({item.scope.space, text, store.tags().hash(item.scope.space, text)});
        NewEntry entry;
        entry.scope = &item.scope;
        entry.key = {item.scope.id, item.key, store.key_hash(item.scope.id, item.key)};
        entry.tags = tags;
        entry.value = std::as_bytes(std::span(value.data(), value.size()));
        entry.birth = birth;
        entry.created_at = kNow;
        entry.expires_at = kNever;
        entry.compute_us = item.number % 2;
        entry.now = time_.fetch_add(7, std::memory_order_relaxed);
        return store.put(region.base(), region.session(session), entry, {});
    }

    void read(const Region region, unsigned session, unsigned operations) {
        std::mt19937_64 random(seed_ * 100 + session);
        struct Fill {
            const Item* item;
            std::string value;
            Version birth;
        };
        std::deque<Fill> computed;
        Snapshot s = db_.snapshot();
        Version clock = 0;
        unsigned keep = 0, age = 0;
        std::string value;
        for (unsigned i = 0; i < operations && !stop_; ++i) {
            operations_.fetch_add(1, std::memory_order_relaxed);
            if (keep == 0) {
                s = db_.snapshot();
                age = 0;
                keep = random() % 800 == 0 ? static_cast<unsigned>(random() % 3000)
                                           : static_cast<unsigned>(random() % 4);
            } else {
                --keep;
                ++age;
            }
            bool cut = false;
            clock = region.clock().of(s.view(), &cut);
            truncated += cut;

            // Few items are asked for often.
            const Item& item = items_[std::min(random() % kItems, random() % kItems)];
            const Store& store = region.store();
            Lookup found;
            const Key key{item.scope.id, item.key, store.key_hash(item.scope.id, item.key)};
            if (store.find(region.base(), key, clock, kNow, found) == Found::kHit) {
                value.resize(found.value_bytes);
                if (random() % 64 == 0) std::this_thread::yield();
                if (!store.copy(region.base(), found, value.data())) {
                    ++torn;
                    continue;
                }
                region.store().count_hit(region.base(), region.session(session), found,
                                         time_.load(std::memory_order_relaxed));
                ++hits;
                if (age > 100) ++old_hits;
                const std::string expected = compute(item, s, found.birth);
                if (value != expected || found.compute_us != item.number % 2) {
                    fail("served " + show(item, value) + "\nright  " + show(item, expected) + "\nclock " +
                         std::to_string(clock) + " xmin " + std::to_string(s.xmin) + " xmax " +
                         std::to_string(s.xmax) + " age " + std::to_string(age));
                }
                continue;
            }
            computed.push_back({&item, compute(item, s, clock), clock});
            // Most are stored at once, some much later.
            while (!computed.empty() && (computed.size() > 20 || random() % 4 != 0)) {
                if (random() % 8 == 0) std::this_thread::yield();
                Fill fill = std::move(computed.front());
                computed.pop_front();
                if (broken_ == Break::kBirthAtPut) {
                    fill.birth = region.clock().of(db_.snapshot().view());
                    std::memcpy(fill.value.data() + 8, &fill.birth, 8);
                }
                const Put result = put(region, session, *fill.item, fill.value, fill.birth);
                stored += result == Put::kStored;
                late += result == Put::kLate;
            }
        }
    }

    void invalidate(const Region& region, unsigned row, Version version) {
        Store& store = region.store();
        const Scope shared = shared_scope(1);
        const std::string tag = "row" + std::to_string(row);
        store.stamp_tag(region.base(), {shared.space, tag, store.tags().hash(shared.space, tag)}, version);
        if (row == 4 || row == 5) {
            for (unsigned i = 0; i < Item::kKeyed / 2; ++i)
                store.stamp_key(region.base(), shared, "key:" + std::to_string(row) + ":" + std::to_string(i),
                                true, version);
        }
        if (row == 6 || row == 7)
            store.stamp_pattern(region.base(), shared.space, nullptr, "p" + std::to_string(row) + ":*",
                                version);
        if (row == 8) store.stamp_space(region.base(), shared_scope(2, 1).space, version);
    }

    void write(const Region region, unsigned session) {
        std::mt19937_64 random(seed_ * 100 + session);
        PendingMark& mark = region.session(session).mark;
        while (!stop_ && !db_.exhausted()) {
            std::array<unsigned, 2> rows{static_cast<unsigned>(random() % Database::kRows),
                                         static_cast<unsigned>(random() % Database::kRows)};
            std::sort(rows.begin(), rows.end());
            const std::size_t count = rows[0] == rows[1] ? 1 : 2;
            std::unique_lock first(db_.writer_lock(rows[0]));
            std::unique_lock<std::mutex> second;
            if (count == 2) second = std::unique_lock(db_.writer_lock(rows[1]));

            const FullXid xid = db_.begin();
            for (std::size_t i = 0; i < count; ++i)
                db_.write(rows[i], xid);
            const bool abort = random() % 8 == 0;
            if (abort && random() % 2 == 0) {
                db_.finish(xid, false);
                continue;
            }
            // Sometimes it sets what it has just made wrong.
            const bool sets = random() % 3 == 0;
            const Item& item = items_[random() % kItems];
            const Snapshot own = db_.snapshot(xid);

            Version version = 0;
            const auto stamp = [&] {
                version = region.clock().stamp(mark, xid);
                if (random() % 8 == 0) std::this_thread::yield();
                for (std::size_t i = 0; i < count; ++i)
                    invalidate(region, rows[i], version);
            };
            bool may_set = false;
            if (broken_ == Break::kStampAfterVisible) {
                db_.finish(xid, !abort);
                std::this_thread::yield();
                stamp();
            } else if (broken_ == Break::kVersionBeforeClock) {
                // As if registrations were not kept: the clock is what has been handed out.
                PendingMark nobody{};
                version = region.clock().stamp(nobody, 0);
                std::this_thread::yield();
                for (std::size_t i = 0; i < count; ++i)
                    invalidate(region, rows[i], version);
                std::this_thread::yield();
                db_.finish(xid, !abort);
            } else {
                stamp();
                may_set = sets && (broken_ == Break::kOwnBirthUnchecked ||
                                   region.clock().of(own.view(true)) >= version);
                if (random() % 8 == 0) std::this_thread::yield();
                db_.finish(xid, !abort);
            }
            if (random() % 4 == 0) std::this_thread::yield();
            mark.version.store(0, std::memory_order_release);
            if (may_set && !abort) {
                const Put result = put(region, session, item, compute(item, own, version), version);
                own_stored += result == Put::kStored;
            }
            first.unlock();
            if (second) second.unlock();
            if (random() % 2 == 0) std::this_thread::yield();
            // Readers get somewhere between two transactions, sometimes far enough to fill the region.
            const std::uint64_t until = operations_.load(std::memory_order_relaxed) +
                                        (random() % 100 == 0 ? 4000 : random() % pause_);
            while (!stop_ && operations_.load(std::memory_order_relaxed) < until)
                std::this_thread::yield();
        }
    }

    /// Sweeps, looks, gathers, raises the floor; and holds an old transaction open now and then, so that the ring is overrun.
    void keep_house(const Region region, unsigned session) {
        std::mt19937_64 random(seed_ * 100 + session);
        Store& store = region.store();
        FullXid idle = 0;
        Version idle_until = 0;
        while (!stop_) {
            if (idle == 0 && random() % 2000 == 0) {
                idle = db_.begin();
                idle_until = region.clock().now() + random() % 3000;
            } else if (idle != 0 && region.clock().now() >= idle_until) {
                db_.finish(idle, random() % 2 == 0);
                idle = 0;
            }
            const auto bucket = static_cast<std::uint32_t>(random() % store.bucket_count());
            switch (random() % 6) {
                case 0: {
                    const std::uint64_t salt = random();
                    store.remove_if(region.base(), bucket,
                                    [&](const EntryInfo& e) { return e.dead || (e.entry ^ salt) % 64 == 0; });
                    break;
                }
                case 1:
                    store.visit(region.base(), bucket, [&](const EntryInfo& e) {
                        for (std::uint32_t i = 0; i < e.tag_count; ++i) {
                            if (!Store::tag(region.base(), e.tags[i]).text().starts_with("row"))
                                fail("a tag that nobody made");
                        }
                        scattered += e.size_bytes > e.value_bytes + 512;
                    });
                    break;
                case 2:
                    store.gather_hits(region.base(), time_.load(std::memory_order_relaxed));
                    break;
                case 3: {
                    const Item& item = items_[random() % kItems];
                    store.remove(region.base(),
                                 {item.scope.id, item.key, store.key_hash(item.scope.id, item.key)});
                    break;
                }
                case 4: {
                    const Version bound = region.settled_bound();
                    if (random() % 2 == 0) std::this_thread::yield();
                    const Snapshot s = db_.snapshot();
                    if (random() % 2 == 0) std::this_thread::yield();
                    if (random() % 3 == 0) region.clock().raise_floor(bound, s.xmax, s.xcnt);
                    break;
                }
                default:
                    store.usage();
                    std::this_thread::yield();
            }
        }
        if (idle != 0) db_.finish(idle, true);
    }

    const Break broken_;
    const unsigned seed_;
    const unsigned pause_;
    TestRegion r_;
    Database db_;
    std::vector<Item> items_;
    std::atomic<bool> stop_{false};
    std::atomic<Timestamp> time_{kNow};
    std::atomic<std::uint64_t> operations_{0};  // of readers
    std::mutex failure_lock_;
    std::string failure_;
};

TEST(Coherence, readers_are_served_what_their_snapshot_sees) {
    const int rounds = std::max(2, static_cast<int>(4 * test_scale()));
    std::uint64_t hits = 0, old_hits = 0, stored = 0, own_stored = 0, late = 0, evictions = 0, truncated = 0;
    // All that is meant to be tested is to happen; when it does is up to who runs when.
    const auto has_happened = [&] {
        return hits > 1000 && old_hits > 0 && stored > 1000 && own_stored > 0 && late > 0 &&
               evictions > 100 && truncated > 0;
    };
    for (int round = 0; round < rounds || (round < 10 * rounds && !has_happened()); ++round) {
        Stress stress(Break::kNone, static_cast<unsigned>(round + 1), round % 2 == 0 ? 60 : 3);
        stress.run(3, 2, static_cast<unsigned>(400'000 * std::min(1.0, test_scale())));
        ASSERT_EQ(stress.failure(), "");
        std::printf(
            "hits %lu (under old snapshots %lu), gone while copied %lu, stored %lu, by writers %lu, late "
            "%lu, cut clocks %lu, evictions %lu, "
            "registrations %lu\n",
            static_cast<unsigned long>(stress.hits), static_cast<unsigned long>(stress.old_hits),
            static_cast<unsigned long>(stress.torn), static_cast<unsigned long>(stress.stored),
            static_cast<unsigned long>(stress.own_stored), static_cast<unsigned long>(stress.late),
            static_cast<unsigned long>(stress.truncated),
            static_cast<unsigned long>(stress.region().region.total(Counter::kEvictions)),
            static_cast<unsigned long>(stress.region().now()));
        hits += stress.hits;
        old_hits += stress.old_hits;
        stored += stress.stored;
        own_stored += stress.own_stored;
        late += stress.late;
        evictions += stress.region().region.total(Counter::kEvictions);
        truncated += stress.truncated;
        ASSERT_NO_FATAL_FAILURE(stress.expect_sound());
    }
    EXPECT_GT(hits, 1000u);
    EXPECT_GT(old_hits, 0u);
    EXPECT_GT(stored, 1000u);
    EXPECT_GT(own_stored, 0u);
    EXPECT_GT(late, 0u);
    EXPECT_GT(evictions, 100u);
    EXPECT_GT(truncated, 0u) << "the ring must be overrun";
}

TEST(Coherence, a_settled_bound_covers_only_what_a_later_snapshot_sees_finished) {
    constexpr unsigned kStampers = 3;
    TestRegion r(0, kStampers, 0);
    Database db;
    const Clock& clock = r.region.clock();
    const std::size_t limit = static_cast<std::size_t>(200'000 * std::min(1.0, test_scale()));
    std::vector<std::atomic<FullXid>> registered(limit + 100);
    std::atomic<bool> stop{false};
    std::atomic<Version> passed{1};
    std::vector<std::thread> threads;
    for (unsigned session = 0; session < kStampers; ++session) {
        threads.emplace_back([&, session] {
            PendingMark& mark = r.region.session(session).mark;
            std::mt19937_64 random(session);
            while (!stop && clock.now() < limit) {
                if (clock.now() > passed + 1000) {  // the checks keep up
                    std::this_thread::yield();
                    continue;
                }
                const FullXid xid = db.begin();
                for (unsigned times = 1 + random() % 2; times > 0; --times) {
                    const Version v = r.region.clock().stamp(mark, xid);
                    registered[v].store(xid, std::memory_order_release);
                }
                if (random() % 16 == 0) std::this_thread::yield();
                db.finish(xid, true);
                mark.version.store(0, std::memory_order_release);
            }
            stop = true;
        });
    }
    std::uint64_t checked = 0, unfinished = 0;
    Version before = 1;
    while (!stop) {
        const Version bound = r.region.settled_bound();
        const Snapshot s = db.snapshot();
        r.region.clock().raise_floor(bound, s.xmax, s.xcnt);
        for (; before < bound; ++before, ++checked) {
            FullXid xid = 0;
            while ((xid = registered[before + 1].load(std::memory_order_acquire)) == 0)
                std::this_thread::yield();
            unfinished += !s.view().finished(xid);
        }
        passed = before;
        const Version now = clock.of(s.view());
        unfinished += now < bound;
    }
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(unfinished, 0u);
    EXPECT_GT(checked, limit / 2);
}

void expect_found_out(Break what) {
    for (unsigned seed = 1; seed <= 20; ++seed) {
        Stress stress(what, seed);
        stress.run(2, 2, 100'000);
        if (!stress.failure().empty()) return;
    }
    FAIL() << "a broken rule went unnoticed";
}

TEST(Coherence, the_oracle_notices_a_stamp_after_visibility) { expect_found_out(Break::kStampAfterVisible); }
TEST(Coherence, the_oracle_notices_a_birth_taken_when_storing) { expect_found_out(Break::kBirthAtPut); }
TEST(Coherence, the_oracle_notices_an_own_birth_that_is_not_checked) {
    expect_found_out(Break::kOwnBirthUnchecked);
}
TEST(Coherence, the_oracle_notices_a_clock_without_registrations) {
    expect_found_out(Break::kVersionBeforeClock);
}

}  // namespace
}  // namespace cache_ext::core
