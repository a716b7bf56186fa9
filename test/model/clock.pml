/*
 * The invalidation clock, the tag versions, the entries and the quarantine, at the grain of the steps that src/core and src/pg take.
 *
 * Writers stamp, write the versions of what they invalidate, become visible or abort, and clear their mark; some write through, some stamp
 * a second time, some are prepared. Fillers compute under a snapshot and publish later. A reader takes a snapshot, works out its clock,
 * looks the entry up without a lock, and asserts what the cache promises: what it gets is what computing it under its own snapshot would
 * give. Others evict the entry, and with it its tag's slot, raise the clock's floor, and lift quarantines. When all have ended, a fill succeeds.
 *
 * What a value reflects is a set of writers. One key and one tag are enough, since rules about several only add conditions; a second tag
 * is there only to share the first one's cell. One reader is enough, since readers change nothing.
 *
 * A step is atomic here only where the code takes it under a lock that all who look at the same things take, where it is one load or store, or
 * where the code throws away what it read unless nothing has moved meanwhile (a slot of the ring is read whole, or taken for overwritten). With
 * FINE the stamp, which nobody needs a lock to look at, is made of its single stores.
 *
 * COARSE is for the larger sizes. Steps are put together where their worst moment is known: to raise the floor takes no time, since later looks at
 * the marks only find more of them clear, and an earlier snapshot lets more others be later; a transaction's end is told, and its mark cleared, as it
 * becomes visible, since both only let others believe more; putting and evicting an entry take no time, since readers look only at whole
 * states of it (which the finer configurations show). For the reader stands every snapshot that there ever was, at every later moment, with the clock
 * that it has by definition; and the clocks that the fillers work out from the ring and the floor are shown never to be beyond that.
 *
 * Transaction ids: writer i has the id i. It makes no difference when it got it: a snapshot's bounds come from who has ended.
 *
 * Sizes: WRITERS (at most 4), FILLERS, RING. How many of the writers, whichever they are,
 *   THROUGH    publish what they computed after their own invalidation
 *   AGAIN      are made to stamp a second time (another library's work before the commit)
 *   PREPARED   are prepared under quarantine
 *   FALLBACK   are prepared with an ordinary stamp, its mark left to who finds that they are over
 * ELSEWHERE is the set of writers that invalidate not the entry's tag but one that shares its cell. FLOORS: how often the floor is raised.
 * NO_ABORTS: every writer commits, but for those that write through. Nothing else in the protocol asks how a transaction ended, so that this is the
 * stronger claim, with fewer states: the entry reflects the very transactions that had ended for the reader.
 * KEYED: the entry is invalidated by its key, which has a cell and no slot. SPACE: by its space, whose floor takes the slot's place.
 *
 * Deliberate bugs, each switched on by a define, that the checker must find:
 *   STAMP_LATE      the stamp after the transaction is visible
 *   BIRTH_AT_SET    the birth taken when the value is stored
 *   BIRTH_NEWER     the birth taken under a newer snapshot than the value's
 *   NO_RING         the clock is the newest version, whatever is unfinished
 *   OVERWRITE       versions overwritten instead of raised
 *   SLOT_BEFORE     a slot's version taken from the cell before the slot can be found
 *   CELL_AFTER      the invalidator looks for the slot first and writes the cell after
 *   FLOOR_OLD       the floor used for snapshots that are older than the one it was raised with
 *   FLOOR_FIRST     the floor's fresh snapshot taken before the marks are looked at
 *   MARK_LATE       the pending mark set after the version is public
 *   MARK_EARLY      the pending mark cleared before the transaction is visible
 *   MARK_NEWEST     a second stamp's version overwrites the first one's in the mark
 *   END_EARLY       an end told before the transaction is visible
 *   ENDS_LATE       the ends that were told looked at after the snapshot instead of before the transaction
 *   NO_RECHECK      the reader does not look at the bucket's version again
 *   FREE_FIRST      the slot and the entry given back before the bucket's version is raised
 *   REMOVE_FIRST    (KEYED) the entry removed before the key's cell is written or quarantined
 *   THROUGH_ANY     written through although another version was taken in between
 *   THROUGH_UNSETTLED  written through although something registered before was unfinished for the snapshot
 *   THROUGH_EARLY   written through before the commit
 *   QUARANTINE_LATE the quarantine set when the prepared transaction is visible
 *   LIFT_EARLY      the quarantine lifted before the version is written
 *   LIFT_BARE       lifted with no version at all
 *   LIFT_UNREGISTERED  lifted with a version that is registered for nobody
 *   LIFT_OTHERS     lifting clears the cell although another transaction's quarantine lies on it
 *   LIFT_RUNNING    lifted while the transaction is in progress
 *   RAISE_WHOLE     a stamp under quarantine compares with the mark too, and so leaves no version
 *   SLOT_BARE       a new slot takes the cell's version without the mark
 *   SLOT_STAYS      the last lift of a cell leaves the marks of other tags' slots (no stale answer, but tags that are never filled again)
 *   TWICE_COUNTED   the floor's snapshot counts a transaction twice while it is being prepared (the server lists it twice then)
 *   REGION_ACTIVE   (RESTARTED) only the active snapshot is held against the region's first transaction id, not the oldest
 *
 * RESTARTED: writer 0 was prepared before the memory was made, which has no trace of it.
 * REACH_HIT, REACH_THROUGH, REACH_LIFTED, REACH_FLOOR turn what they name into a violation, to show that it is reached.
 */

#ifndef WRITERS
#define WRITERS 3
#endif
#ifndef FILLERS
#define FILLERS 2
#endif
#ifndef RING
#define RING 2
#endif
#ifndef THROUGH
#define THROUGH 0
#endif
#ifndef AGAIN
#define AGAIN 0
#endif
#ifndef PREPARED
#define PREPARED 0
#endif
#ifndef FALLBACK
#define FALLBACK 0
#endif
#ifndef ELSEWHERE
#define ELSEWHERE 0
#endif
#ifndef FLOORS
#define FLOORS 1
#endif
#ifdef RESTARTED
#define REGION_XID 1
#else
#define REGION_XID 0
#endif

#ifdef COARSE
#define WHOLE atomic
#else
#define WHOLE
#endif

#ifdef COARSE
#define READERS 0
#else
#define READERS 1
#endif
#if PREPARED > 1
#define OTHERS (READERS + 3)
#elif PREPARED > 0
#define OTHERS (READERS + 2)
#else
#define OTHERS (READERS + 1)
#endif

#define BIT(i) (1 << (i))
#define HAS(set, i) ((set) & BIT(i))
#define NOBODY 7                /* registered by nobody who could still roll back: finished for all */
#define EVERYBODY (BIT(WRITERS) - 1)

/* A snapshot: who had ended, and in bit 6 whether it counts one transaction twice. Its bounds follow: ids are given out in order. */
#define TWICE BIT(6)
#define SET(s) ((s) & (TWICE - 1))
#define XMIN(s) (HAS(s, 0) -> (HAS(s, 1) -> (HAS(s, 2) -> (HAS(s, 3) -> 4 : 3) : 2) : 1) : 0)
#define XMAX(s) (HAS(s, 3) -> 4 : (HAS(s, 2) -> 3 : (HAS(s, 1) -> 2 : (HAS(s, 0) -> 1 : 0))))
#define ENDED(s) (HAS(s, 0) + ((s) >> 1 & 1) + ((s) >> 2 & 1) + ((s) >> 3 & 1))
#define XCNT(s) (XMAX(s) - ENDED(s) + ((s) >> 6))

/* The server. */
byte ended = 0;                 /* the writers that are committed or aborted, and seen so by new snapshots */
byte committed = 0;             /* of those, which committed */
#if PREPARED > 0
byte doubled = 0;               /* 1 + the transaction that is listed by its session and as a prepared one */
#define SNAPSHOT (ended | (doubled != 0 && doubled <= XMAX(ended) -> TWICE : 0))
#else
#define SNAPSHOT (ended)
#endif

/* The clock. */
byte now = 0;                   /* the newest version */
byte ring_version[RING];
byte ring_writer[RING];
byte ring_max[RING];            /* 1 + the largest id registered so far */
byte max_xid = 0;
byte mark[WRITERS];
byte told = 0;                  /* whose end was told. What had been told when a filler began stands for the count of events */
byte floor_version = 0, floor_xmax = 0, floor_xcnt = 0;
#ifdef FINE
bool clock_locked = false;
#define CLOCK !clock_locked ->
#else
#define CLOCK
#endif

/* The tag. */
byte cell = 0;                  /* the version of all tags without a slot */
bool slot_there = false;
byte slot_version = 0;
#if PREPARED > 0
byte recorded = 0;              /* whose quarantine lies on the cell: in the code their number, in the upper bits of its version */
bool slot_q = false;            /* and whether any lies on the slot, in the same way */
byte taken = 0;                 /* somebody has found it over, and lifts it */
#define CELL_Q (recorded != 0)
#define SLOT_Q slot_q
#else
#define CELL_Q false
#define SLOT_Q false
#endif

/* The entry: two blocks of memory, of which one at most is linked. */
byte linked = 0;                /* 1 + the block */
byte block_value[2], block_birth[2];
bool store_locked = false;
bool reading = false, moved = false;    /* whether the bucket's version has moved since the reader looked at it */

#if FALLBACK > 0
byte fallen = 0;                /* whose mark was left */
#endif
byte begun = 0;                 /* fillers begin in their order: they are alike */
byte writers_done = 0, others_done = 0;

/* --- the clock --------------------------------------------------------------------------------------------------------------- */

#ifdef COARSE
/* clock(S) by its definition, with all that was ever registered. */
byte registered[WRITERS + AGAIN + 1];
#define REGISTER(v, writer) registered[v] = writer
#define CHECK_CLOCK(s, own, result) assert(result <= EXACT((s) | (own)))
#define PASSES(s, v) (v <= now && HAS((s) | BIT(NOBODY), registered[v]))
#if WRITERS + AGAIN > 3
#define EXACT(s) (PASSES(s, 1) -> (PASSES(s, 2) -> (PASSES(s, 3) -> (PASSES(s, 4) -> 4 : 3) : 2) : 1) : 0)
#elif WRITERS + AGAIN > 2
#define EXACT(s) (PASSES(s, 1) -> (PASSES(s, 2) -> (PASSES(s, 3) -> 3 : 2) : 1) : 0)
#else
#define EXACT(s) (PASSES(s, 1) -> (PASSES(s, 2) -> 2 : 1) : 0)
#endif
#else
#define REGISTER(v, writer)
#define CHECK_CLOCK(s, own, result)
#endif

/* Clock::stamp, under the clock's lock. */
inline stamp(v, writer) {
#ifdef FINE
    atomic { !clock_locked -> clock_locked = true; ring_version[(now + 1) % RING] = 0 }
    ring_writer[(now + 1) % RING] = writer;
    atomic {
        max_xid = (max_xid < writer + 1 -> writer + 1 : max_xid);
        ring_max[(now + 1) % RING] = max_xid
    }
    ring_version[(now + 1) % RING] = now + 1;
#ifndef BUG_MARK_LATE
    set_mark(now + 1);
#endif
    d_step { now = now + 1; v = now; clock_locked = false }
#else
    d_step {
        v = now + 1;
        max_xid = (max_xid < writer + 1 -> writer + 1 : max_xid);
        ring_version[v % RING] = v; ring_writer[v % RING] = writer; ring_max[v % RING] = max_xid;
#ifndef BUG_MARK_LATE
        set_mark(v);
#endif
        REGISTER(v, writer);
        now = v;
        read_all()
    }
#endif
#ifdef BUG_MARK_LATE
    set_mark(v)
#endif
}

inline set_mark(v) {
#ifdef BUG_MARK_NEWEST
    mark[me] = v
#else
    mark[me] = (mark[me] == 0 -> v : mark[me])
#endif
}

/* Whether what the next look finds will not change any more, so that it makes no difference when it is taken: the slot has been overwritten
   already, or will not be. */
#define LASTS (at != 0 && at < 64 && (ring_version[at % RING] != at || at + RING > WRITERS + AGAIN))

/* Clock::of. The snapshot has been taken; the newest version is read after it, then the ring downwards, a slot at a time. `own` is counted as finished.
   With `oldest` it is for what is known of the snapshots that are held: none has an older xmin than this one, and who had ended before this transaction began,
   `known`, is finished for it; and so is all below the floor, if it was raised before that. */
inline clock_of(s, own, oldest, known, knows_floor, result) {
#ifdef BUG_NO_RING
    result = now;
#else
    atomic { at = now; result = at; do :: LASTS -> look(s, own, oldest, known, result) :: else -> break od }
    do
    :: at == 0 -> break
    :: atomic {
            at != 0 && at < 64 -> look(s, own, oldest, known, result);
            do :: LASTS -> look(s, own, oldest, known, result) :: else -> break od
        }
    :: at >= 64 ->
        atomic {                                /* under the clock's lock */
            CLOCK
            at = at - 64;
            if
#ifndef BUG_FLOOR_OLD
            :: !((oldest -> XMIN(s) : XMAX(s)) > floor_xmax ||
                 ((oldest -> XMIN(s) : XMAX(s)) == floor_xmax && (oldest -> 0 : XCNT(s)) <= floor_xcnt) ||
                 (oldest && knows_floor != 0 && knows_floor == floor_version)) -> result = 0
#endif
            :: else ->
                if
                :: floor_version < at && floor_version < result -> result = floor_version
                :: else
                fi
            fi;
            CHECK_CLOCK(s, own, result);
            at = 0
        }
    od
#endif
}

/* One look at the ring, at the version `at`. */
inline look(s, own, oldest, known, result) {
    if
    :: ring_version[at % RING] == at ->
        if
        :: ring_max[at % RING] <= XMIN(s) -> at = 0
        :: else ->
            if
            :: HAS((oldest -> (BIT(XMIN(s)) - 1) | known : SET(s) | own) | BIT(NOBODY), ring_writer[at % RING]) -> skip
            :: else -> result = at - 1
            fi;
            at = at - 1
        fi
    :: else -> at = at + 64                     /* overwritten: of this and all before it only the floor knows */
    fi
}

inline look_at_marks() {
    do
    :: atomic { i < WRITERS -> bound = (mark[i] != 0 && mark[i] - 1 < bound -> mark[i] - 1 : bound); i = i + 1 }
    :: i == WRITERS -> break
    od
}

/* pg::raise_clock_floor: the newest version, then the marks one by one, then a fresh snapshot, then both stored together. */
proctype FloorRaiser() {
    byte bound, i = 0, seen = 0, left = FLOORS;
    do
    :: left > 0 ->
        WHOLE {
            left = left - 1;
#if FALLBACK > 0
            do                                  /* pg::reap_prepared */
            :: atomic { i < WRITERS -> if :: HAS(fallen & ended, i) -> mark[i] = 0; fallen = fallen & ~BIT(i) :: else fi; i = i + 1 }
            :: i == WRITERS -> i = 0; break
            od;
#endif
            bound = now;
#ifdef BUG_FLOOR_FIRST
            seen = SNAPSHOT;
            look_at_marks();
#else
            look_at_marks();
            seen = SNAPSHOT;
#endif
            atomic {
                CLOCK
                if
                :: bound > floor_version ->
                    floor_version = bound;
                    floor_xmax = XMAX(seen);
#ifdef BUG_TWICE_COUNTED
                    floor_xcnt = XCNT(seen)
#else
                    floor_xcnt = XCNT(SET(seen))    /* each transaction once */
#endif
                :: else
                fi;
                seen = 0; bound = 0; i = 0
            }
        }
    :: atomic { left = 0; others_done = others_done + 1; break }
    od
}

#ifdef KEYED
#define IN_TAG(holds) true
#else
#define IN_TAG(holds) (holds)
#endif
#ifdef REACH_HIT
#define REACHED_HIT assert(false);
#else
#define REACHED_HIT
#endif

#ifdef COARSE
/* The readers: every snapshot that can ever have been taken, at every later moment, with the clock that it has by definition. */
byte ends = 0;
hidden byte reader = 0;
byte past[WRITERS + 1];         /* who had ended, after so many ends */
inline read_all() {
        if
        :: linked != 0 && IN_TAG(slot_version <= block_birth[linked - 1] && !SLOT_Q) ->
            reader = 0;
            do
            :: reader <= ends && XMIN(past[reader]) >= REGION_XID && block_birth[linked - 1] <= EXACT(past[reader]) ->
                REACHED_HIT
                assert((block_value[linked - 1] & ~ELSEWHERE) == (past[reader] & committed & ~ELSEWHERE));
                reader = reader + 1
            :: reader <= ends && !(XMIN(past[reader]) >= REGION_XID && block_birth[linked - 1] <= EXACT(past[reader])) ->
                reader = reader + 1
            :: reader > ends -> break
            od;
            reader = 0
        :: else
        fi
}
#define COME_TO_PASS ends = ends + 1; past[ends] = ended; read_all();
#else
inline read_all() { skip }
#define COME_TO_PASS
#endif

/* --- tags -------------------------------------------------------------------------------------------------------------------- */

inline raise(at_version, quarantined, v) {
#ifdef BUG_OVERWRITE
    at_version = v;
#else
#ifdef BUG_RAISE_WHOLE
    at_version = (at_version < v && !(quarantined) -> v : at_version);
#else
    at_version = (at_version < v -> v : at_version);
#endif
#endif
}

/* Index::removed: raises the bucket's version. */
inline bump() { d_step { if :: reading -> moved = true :: else fi } }

/* Store::dispose of what is no longer linked, and with the last entry goes the slot. What is freed may hold anything at once. */
inline dispose() {
    block_value[0] = (linked == 1 -> block_value[0] : 0); block_birth[0] = (linked == 1 -> block_birth[0] : 0);
    block_value[1] = (linked == 2 -> block_value[1] : 0); block_birth[1] = (linked == 2 -> block_birth[1] : 0);
    if
    :: linked == 0 ->
        slot_there = false; slot_version = 0;
#if PREPARED > 0
        slot_q = false
#endif
    :: else
    fi
}

/* After the link has gone: the bucket's version is raised, and then what was linked is given back. */
inline give_back() {
#ifdef BUG_FREE_FIRST
    d_step { dispose() };
    bump();
    store_locked = false
#else
    bump();
    d_step { dispose(); store_locked = false }
#endif
}

/* Store::remove */
inline remove_key() {
    WHOLE {
        atomic { !store_locked -> store_locked = true; linked = 0 };
        give_back()
    }
}

/* What a stamp writes: the cell, then the slot, under the partition's lock. */
inline write_versions(v, here) {
#if defined(KEYED)                              /* Store::stamp_key */
#ifndef BUG_REMOVE_FIRST
    raise(cell, CELL_Q, v);
#endif
    remove_key();
#ifdef BUG_REMOVE_FIRST
    raise(cell, CELL_Q, v)
#endif
#elif defined(SPACE)                            /* Store::stamp_space */
#ifdef BUG_CELL_AFTER
    atomic { !store_locked -> if :: slot_there -> raise(slot_version, SLOT_Q, v) :: else fi }
    d_step { raise(cell, CELL_Q, v) }
#else
    d_step { raise(cell, CELL_Q, v) }
    atomic { !store_locked -> if :: slot_there -> raise(slot_version, SLOT_Q, v) :: else fi }
#endif
#elif defined(BUG_CELL_AFTER)
    d_step { if :: (here) && slot_there -> raise(slot_version, SLOT_Q, v) :: else fi }
    d_step { raise(cell, CELL_Q, v) }
#elif defined(BUG_SLOT_BEFORE)
    d_step { raise(cell, CELL_Q, v) }
    d_step { if :: (here) && slot_there -> raise(slot_version, SLOT_Q, v) :: else fi }
#else
    d_step {
        raise(cell, CELL_Q, v);
        if :: (here) && slot_there -> raise(slot_version, SLOT_Q, v) :: else fi
    }
#endif
}

/* --- entries ----------------------------------------------------------------------------------------------------------------- */

/* Store::put. An entry's memory is written before the lock is taken; but nobody is led to it until it is linked. */
inline put(value, birth) {
#ifdef BUG_SLOT_BEFORE
    early = cell;
#endif
    WHOLE {
        atomic {
            !store_locked -> store_locked = true;
            block = (linked == 1 -> 2 : 1);
            block_value[block - 1] = (value) & committed; block_birth[block - 1] = birth;
            if                                  /* TagTable::acquire, under the partition's lock */
            :: !slot_there ->
                slot_there = true;
#ifdef BUG_SLOT_BEFORE
                slot_version = early; early = 0;
#else
                slot_version = cell;
#endif
#if PREPARED > 0 && !defined(BUG_SLOT_BARE)
                slot_q = (recorded != 0)
#endif
            :: else
            fi
        }
        if
#ifdef KEYED
        :: cell <= birth && !CELL_Q ->
#else
        :: slot_version <= birth && !SLOT_Q ->  /* invalidators do not wait for the store's lock */
#endif
            if
            :: atomic { linked == 0 -> linked = block; store_locked = false }
            :: linked != 0 -> linked = block; give_back()
            fi
        :: else -> d_step { dispose(); store_locked = false }
        fi;
        block = 0;
        read_all()
    }
}

proctype Evictor() {
end:
    do
    :: WHOLE {
            atomic { linked != 0 && !store_locked -> store_locked = true; linked = 0 };
            give_back()
        }
    od
}

/* --- transactions ------------------------------------------------------------------------------------------------------------ */

#define PLAIN 0
#define WRITES_THROUGH 1
#define STAMPS_AGAIN 2
#define IS_PREPARED 3
#define FALLS_BACK 4

inline become_visible() {
    if                                          /* commit, or abort after the stamp */
    :: d_step { ended = ended | BIT(me); committed = committed | BIT(me); COME_TO_PASS }
#ifndef NO_ABORTS
    :: d_step { ended = ended | BIT(me); COME_TO_PASS }
#elif THROUGH > 0
    :: d_step { kind == WRITES_THROUGH -> ended = ended | BIT(me); COME_TO_PASS }
#endif
    fi
}

/* What follows when the transaction is visible or gone: the mark is cleared, and its end told (Clock::end). */
inline tell() {
#if FALLBACK > 0
    if
    :: kind == FALLS_BACK -> fallen = fallen | BIT(me)
    :: else -> mark[me] = 0; atomic { CLOCK told = told | BIT(me) }
    fi
#else
    mark[me] = 0;
    atomic { CLOCK told = told | BIT(me) }
#endif
}

inline quarantine() {
#if defined(KEYED) && defined(BUG_REMOVE_FIRST)
    remove_key();
#endif
    atomic {                                    /* TagTable::quarantine, under the partition's lock */
        recorded = recorded | BIT(me);
        if :: slot_there && !HAS(ELSEWHERE, me) -> slot_q = true :: else fi
    }
#if defined(KEYED) && !defined(BUG_REMOVE_FIRST)
    remove_key();
#endif
}

proctype Writer(byte me; byte kind) {
    byte v = 0;
#if THROUGH > 0
    byte newest = 0, value = 0, at = 0, settled = 0, block = 0;
#ifdef BUG_SLOT_BEFORE
    byte early;
#endif
#endif
#if AGAIN > 0
    byte again = 0;
#endif
#ifdef RESTARTED
    if :: me == 0 -> become_visible(); goto done :: else fi;
#endif
#if PREPARED > 0
    if
    :: kind == IS_PREPARED ->
#ifndef BUG_QUARANTINE_LATE
        quarantine();                           /* PRE_PREPARE */
#endif
        if
        :: true                                 /* fails */
        :: doubled == 0 -> doubled = me + 1; doubled = 0
        fi;
        become_visible();                       /* COMMIT PREPARED or ROLLBACK PREPARED: tells nobody */
#ifdef BUG_QUARANTINE_LATE
        quarantine();
#endif
        goto done
    :: else
    fi;
#endif

#if THROUGH > 0
    if
    :: kind == WRITES_THROUGH ->                /* pg::settled_newest, and what is computed under that snapshot */
        value = SNAPSHOT;
        newest = now;
        clock_of(value, BIT(me), false, 0, 0, settled);
#ifndef BUG_THROUGH_UNSETTLED
        if :: settled < newest -> kind = PLAIN; value = 0; newest = 0 :: else fi;
#endif
        settled = 0
    :: else
    fi;
#endif

#ifndef BUG_STAMP_LATE
    stamp(v, me);
    write_versions(v, !HAS(ELSEWHERE, me));
#if AGAIN > 0
    if
    :: kind == STAMPS_AGAIN ->
        stamp(again, me);
        write_versions(again, !HAS(ELSEWHERE, me));
        again = 0
    :: else
    fi;
#endif
#endif
#if THROUGH > 0 && defined(BUG_THROUGH_EARLY)
    if
    :: kind == WRITES_THROUGH && v == newest + 1 ->
        committed = committed | BIT(me);        /* only so that the value reflects it */
        put(SET(value) | BIT(me), v);
        committed = committed & ~BIT(me)
    :: else
    fi;
#endif
#ifdef BUG_MARK_EARLY
    mark[me] = 0;
#endif
#ifdef BUG_END_EARLY
    told = told | BIT(me);
#endif
    WHOLE {
        become_visible();
#ifdef COARSE
        tell()
#endif
    }
#ifdef BUG_STAMP_LATE
    stamp(v, me);
    write_versions(v, !HAS(ELSEWHERE, me));
#endif

#if THROUGH > 0 && !defined(BUG_THROUGH_EARLY)
    if                                          /* XACT_EVENT_COMMIT: publish() */
#ifdef BUG_THROUGH_ANY
    :: kind == WRITES_THROUGH && HAS(committed, me) ->
#else
    :: kind == WRITES_THROUGH && HAS(committed, me) && v == newest + 1 ->
#endif
#ifdef REACH_THROUGH
        assert(false);
#endif
        put(SET(value) | BIT(me), v)
    :: else
    fi;
    value = 0; newest = 0;
#endif
#ifndef COARSE
    tell();
#endif
done:
    atomic { v = 0; kind = 0; writers_done = writers_done + 1 }
}

#if PREPARED > 0
/* TagTable::lift, under the partition's lock: what is in quarantine gets the version, then one quarantine of the cell ends, and with the last one those
   of the slots. */
inline written() {
    cell = (cell < v -> v : cell);
    if :: slot_there && slot_q -> slot_version = (slot_version < v -> v : slot_version) :: else fi
}

inline lift() {
#ifdef BUG_LIFT_OTHERS
    recorded = 0;
#else
    recorded = recorded & ~BIT(i);
#endif
#ifdef BUG_SLOT_STAYS
    if :: slot_there && recorded == 0 && !HAS(ELSEWHERE, i) -> slot_q = false :: else fi
#else
    if :: slot_there && recorded == 0 -> slot_q = false :: else fi
#endif
}

/* Whoever finds a prepared transaction over: Region::release_prepared. */
proctype Lifter() {
    byte i = 0, v = 0;
    do
    :: atomic {
#ifdef BUG_LIFT_RUNNING
            (recorded & ~taken) != 0 ->
            v = recorded & ~taken;
#else
            (recorded & ended & ~taken) != 0 ->
            v = recorded & ended & ~taken;
#endif
            i = (HAS(v, 0) -> 0 : (HAS(v, 1) -> 1 : (HAS(v, 2) -> 2 : 3)));
            v = 0;
            taken = taken | BIT(i)
        }
#ifndef BUG_LIFT_BARE
        atomic {
            CLOCK
            v = now + 1;
            ring_version[v % RING] = v;
#ifdef BUG_LIFT_UNREGISTERED
            ring_writer[v % RING] = NOBODY;
            REGISTER(v, NOBODY);
#else
            ring_writer[v % RING] = i;
            REGISTER(v, i);
            max_xid = (max_xid < i + 1 -> i + 1 : max_xid);
#endif
            ring_max[v % RING] = max_xid;
            now = v                             /* with no mark: it is over for every snapshot to come */
        }
#endif
#ifdef BUG_LIFT_EARLY
        d_step { lift(); read_all() }
        d_step { written() }
#else
        d_step { written(); lift(); read_all() }
#endif
#ifdef REACH_LIFTED
        assert(false);
#endif
        atomic { CLOCK told = told | BIT(i); i = 0; v = 0 }
    :: atomic { writers_done == WRITERS && (recorded & ~taken) == 0 -> others_done = others_done + 1; break }
    od
}
#endif

/* --- who fills, and who reads ------------------------------------------------------------------------------------------------ */

proctype Filler(byte number) {
    byte snapshot = 0, known = 0, knows_floor = 0, birth = 0, at = 0, block = 0;
#ifdef BUG_SLOT_BEFORE
    byte early;
#endif
#ifdef BUG_BIRTH_AT_SET
    byte other;
#endif
    atomic { begun == number }
    if
    :: d_step { snapshot = SNAPSHOT; begun = begun + 1 }
        /* Get-or-set, or a miss that leaves a lease: the clock of the snapshot. The value is computed under it, or under a later one. */
        if :: XMIN(snapshot) < REGION_XID -> snapshot = 0; goto done :: else fi;
#ifdef BUG_BIRTH_NEWER
        d_step { known = snapshot; snapshot = SNAPSHOT };
        clock_of(snapshot, 0, false, 0, 0, birth);
        atomic { snapshot = known; known = 0 };
#else
        clock_of(snapshot, 0, false, 0, 0, birth);
        do
        :: atomic { snapshot != SNAPSHOT -> snapshot = SNAPSHOT }
        :: break
        od
#endif
    :: WHOLE {
        d_step { known = told; knows_floor = floor_version; begun = begun + 1 }
        /* The value comes from an outer query's or a cursor's older snapshot, of which the clock only knows that it has no older xmin than the oldest that
           is held, and who had ended before this transaction began. */
        snapshot = SNAPSHOT;
#ifdef BUG_ENDS_LATE
        d_step { known = told; knows_floor = floor_version };
#endif
        }
#ifdef BUG_REGION_ACTIVE
        if :: XMIN(ended) < REGION_XID -> snapshot = 0; known = 0; knows_floor = 0; goto done :: else fi;
#else
        if :: XMIN(snapshot) < REGION_XID -> snapshot = 0; known = 0; knows_floor = 0; goto done :: else fi;
#endif
        clock_of(snapshot, 0, true, known, knows_floor, birth);
        atomic { known = 0; knows_floor = 0 }
    fi;
#ifdef BUG_BIRTH_AT_SET
    other = SNAPSHOT;
    clock_of(other, 0, false, 0, 0, birth);
    other = 0;
#endif
    put(SET(snapshot), birth);
done:
    atomic { snapshot = 0; birth = 0; others_done = others_done + 1 }
}

#ifndef COARSE
proctype Reader() {
    byte snapshot = 0, clock = 0, at = 0, entry = 0, birth = 0, value = 0;
    snapshot = SNAPSHOT;
    if :: XMIN(snapshot) < REGION_XID -> goto done :: else fi;
    clock_of(snapshot, 0, false, 0, 0, clock);
#ifdef REACH_FLOOR
    if :: now > RING && floor_version > 0 && clock == floor_version && clock < now -> assert(false) :: else fi;
#endif
    if
    :: d_step { linked != 0 -> reading = true; entry = linked }
    :: linked == 0 -> goto done
    fi;
    birth = block_birth[entry - 1];
    if :: birth > clock -> goto done :: else fi;
    clock = 0;
    if
#ifdef KEYED
    :: true
#else
    :: slot_version > birth || SLOT_Q -> goto done
    :: else
#endif
    fi;
    birth = 0;
    value = block_value[entry - 1];
    if
#ifdef BUG_NO_RECHECK
    :: true ->
#else
    :: !moved ->
#endif
#ifdef REACH_HIT
        assert(false);
#endif
        /* Neither stale (I1), nor early (I2), nor late (I5), and what was rolled back has left no trace (I3); ELSEWHERE did nothing to it. */
        assert((value & ~ELSEWHERE) == (SET(snapshot) & committed & ~ELSEWHERE))
    :: else
    fi;
done:
    atomic { snapshot = 0; clock = 0; entry = 0; birth = 0; value = 0; reading = false; moved = false; others_done = others_done + 1 }
}
#endif

init {
    byte i = 0, through = THROUGH, again = AGAIN, prepared = PREPARED, fallback = FALLBACK;
    atomic {
        run Evictor();
        do
        :: i < WRITERS ->
            if
            :: WRITERS - i > through + again + prepared + fallback -> run Writer(i, PLAIN)
            :: through > 0 && !HAS(ELSEWHERE, i) -> through = through - 1; run Writer(i, WRITES_THROUGH)
            :: again > 0 -> again = again - 1; run Writer(i, STAMPS_AGAIN)
            :: prepared > 0 -> prepared = prepared - 1; run Writer(i, IS_PREPARED)
            :: fallback > 0 -> fallback = fallback - 1; run Writer(i, FALLS_BACK)
            fi;
            i = i + 1
        :: i == WRITERS -> break
        od;
        i = 0;
        do :: i < FILLERS -> run Filler(i); i = i + 1 :: i == FILLERS -> break od;
        i = 0;
        run FloorRaiser();
#if PREPARED > 0
        run Lifter();
#if PREPARED > 1
        run Lifter();
#endif
#endif
#ifndef COARSE
        run Reader();
#endif
        i = 0
    }
    /* When all is quiet a fresh snapshot's clock is the newest version, and a value born with it is stored and served. */
    atomic {
        writers_done == WRITERS && others_done == FILLERS + OTHERS && !store_locked;
        byte at = 0, clock = 0;
        clock_of(ended, 0, false, 0, 0, clock);
        assert(clock == now);
        assert(!CELL_Q && cell <= clock);
        assert(!slot_there || (!SLOT_Q && slot_version <= clock));
#ifdef REACH_END
        assert(false);
#endif
    }
}
