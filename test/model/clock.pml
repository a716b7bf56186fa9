/*
 * The invalidation clock and the tag versions, at the grain of the steps that src/core takes.
 *
 * Writers stamp, write the versions of their tag, become visible or abort, and clear their mark. Fillers compute under a snapshot and
 * publish later. Readers take a snapshot, work out its clock, look an entry up without a lock, and assert what the cache promises:
 * what they get is what computing it under their own snapshot would give. An evictor takes entries, and with them their tag's slot, away.
 *
 * A value is the set of writers whose effect it reflects. One tag and one key are enough: rules about several tags only add conditions.
 *
 * Deliberate bugs, each switched on by a define, that the checker must find:
 *   BUG_STAMP_LATE      the stamp after the transaction is visible
 *   BUG_BIRTH_AT_SET    the birth taken when the value is stored
 *   BUG_NO_RING         the clock is the newest version, whatever is unfinished
 *   BUG_OVERWRITE       versions overwritten instead of raised
 *   BUG_SLOT_BEFORE     a slot's version taken from the cell before the slot can be found
 *   BUG_CELL_AFTER      the invalidator looks for the slot first and writes the cell after
 *   BUG_FLOOR_OLD       the floor used for snapshots that are older than the one it was raised with
 *   BUG_MARK_LATE       the pending mark set after the version is public
 *   BUG_END_EARLY       an end told before the transaction is visible
 *   BUG_NO_RECHECK      the reader does not look at the bucket's version again
 *
 * REACH_HIT turns every hit into a violation, to show that there are hits.
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

#define NONE 255

/* The server: which transactions run, and which have committed. A snapshot is the set of those that had ended. */
byte ended = 0;         /* bit per writer: committed or aborted, and seen so by new snapshots */
byte committed = 0;     /* of those, which committed */
byte begun = 0;

/* The region. */
byte now = 0;           /* the newest version */
byte ring_version[RING];
byte ring_writer[RING];
byte ring_end[RING];    /* at which event it ended; 0 = not told */
byte mark[WRITERS];
byte events = 0;
byte floor_version = 0, floor_event = 0, floor_ended = 0;
bool floor_set = false;
byte cell = 0;          /* the version of all tags without a slot */
bool slot_there = false;
bool slot_found = false; /* linked: the invalidators find it */
byte slot_version = 0;
bool entry_there = false;
byte entry_value = 0, entry_birth = 0;
byte chain_version = 0;
bool store_locked = false;

#define BIT(i) (1 << (i))
#define DONE(set, i) ((set) & BIT(i))

inline raise_to(at, v) {
#ifdef BUG_OVERWRITE
    at = v;
#else
    if :: at < v -> at = v :: else fi;
#endif
}

proctype Writer(byte me) {
    byte v = 0;
    atomic { begun = begun | BIT(me); }
#ifdef BUG_STAMP_LATE
    goto visible;
#endif
stamp:  skip;
    d_step {                                    /* under the clock's lock */
        v = now + 1;
        ring_version[v % RING] = v; ring_writer[v % RING] = me; ring_end[v % RING] = 0;
#ifndef BUG_MARK_LATE
        mark[me] = v;
#endif
        now = v;
    }
#ifdef BUG_MARK_LATE
    mark[me] = v;
#endif
#ifdef BUG_CELL_AFTER
    bool seen = slot_found;
    if :: seen -> d_step { raise_to(slot_version, v) } :: else fi;
    d_step { raise_to(cell, v) }
#else
#ifdef BUG_SLOT_BEFORE
    d_step { raise_to(cell, v) }
    if :: atomic { slot_found -> d_step { raise_to(slot_version, v) } } :: else fi;
#else
    d_step {                                    /* under the partition's lock */
        raise_to(cell, v);
        if :: slot_found -> raise_to(slot_version, v) :: else fi;
    }
#endif
#endif
#ifdef BUG_STAMP_LATE
    goto done;
visible: skip;
#endif
#ifdef BUG_END_EARLY
    d_step { events = events + 1;
        if :: ring_version[v % RING] == v -> ring_end[v % RING] = events :: else fi; }
#endif
    if                                          /* commit, or abort after the stamp */
    :: atomic { ended = ended | BIT(me); committed = committed | BIT(me); }
    :: atomic { ended = ended | BIT(me); }
    fi;
#ifdef BUG_STAMP_LATE
    goto stamp;
done:   skip;
#endif
    mark[me] = 0;
#ifndef BUG_END_EARLY
    d_step {                                    /* under the clock's lock */
        events = events + 1;
        if :: v > 0 && ring_version[v % RING] == v -> ring_end[v % RING] = events :: else fi;
    }
#endif
}

/* clock(S): the snapshot has been taken; the newest version is read after it, then the ring downwards, a slot at a time. */
inline clock_of(snapshot, ended_by, result) {
    at = now;
    result = at;
#ifndef BUG_NO_RING
    do
    :: at == 0 -> break
    :: at > 0 ->
        atomic {                                /* a slot is read whole or taken for overwritten */
            if
            :: ring_version[at % RING] == at ->
                if
                :: DONE(snapshot, ring_writer[at % RING]) -> skip
                :: else ->
                    if
                    :: ring_end[at % RING] != 0 && ring_end[at % RING] <= ended_by -> skip
                    :: else -> result = at - 1
                    fi
                fi;
                at = at - 1
            :: else ->                          /* overwritten: only the floor knows */
                if
#ifdef BUG_FLOOR_OLD
                :: floor_set ->
#else
                :: floor_set && ((snapshot & floor_ended) == floor_ended || (floor_event <= ended_by)) ->
#endif
                    if :: floor_version < at && floor_version < result -> result = floor_version :: else fi
                :: else -> result = 0
                fi;
                at = 0
            fi
        }
    od;
#endif
    at = 0
}

/* Raising the floor: the newest version, then the marks one by one, then a fresh snapshot, then both stored together. */
proctype FloorRaiser() {
    byte bound, i = 0, seen;
    bound = now;
    do
    :: i < WRITERS ->
        atomic { if :: mark[i] != 0 && mark[i] - 1 < bound -> bound = mark[i] - 1 :: else fi; i = i + 1 }
    :: i == WRITERS -> break
    od;
    i = 0;
    seen = ended;                               /* the fresh snapshot */
    d_step {
        if
        :: bound > floor_version ->
            events = events + 1;
            floor_version = bound; floor_ended = seen; floor_event = events; floor_set = true
        :: else
        fi
    }
}

proctype Filler() {
    byte snapshot, oldest, birth, other, value, at = 0, ended_by;
    bool accepted;
    ended_by = events;                          /* at the end of the transaction before */
    oldest = ended;                             /* an outer query's snapshot: what the value is computed under */
    if
    :: snapshot = oldest
    :: snapshot = ended                         /* a later one: the statement's own */
    fi;
    clock_of(snapshot, 0, birth);
    if
    :: snapshot != oldest ->
        /* What is known of the oldest: nothing but the ends before it, and the bound of its xmin, which here is the set itself. */
        clock_of(0, ended_by, other);
        if :: other < birth -> birth = other :: else fi
    :: else
    fi;
    value = oldest & committed;
#ifdef BUG_BIRTH_AT_SET
    birth = now;
#endif
    /* Publication, under the store's lock; the slot of the tag also under its partition's. */
#ifdef BUG_SLOT_BEFORE
    byte early = cell;
#endif
    atomic {
        !store_locked -> store_locked = true;
        if
        :: !slot_there ->
            slot_there = true;
#ifdef BUG_SLOT_BEFORE
            slot_version = early;
#else
            slot_version = cell;
#endif
            slot_found = true
        :: else
        fi
    }
    accepted = slot_version <= birth;           /* invalidators do not wait for the store's lock */
    atomic {
        if
        :: accepted ->
            if :: entry_there -> chain_version = (chain_version + 1) % 8 :: else fi;
            entry_there = true; entry_value = value; entry_birth = birth
        :: else ->
            if :: !entry_there -> slot_there = false; slot_found = false; slot_version = 0 :: else fi
        fi;
        store_locked = false
    }
    snapshot = 0; oldest = 0; birth = 0; other = 0; value = 0; ended_by = 0
}

proctype Evictor() {
end:
    atomic {
        entry_there && !store_locked ->
        entry_there = false; entry_value = 0; entry_birth = 0; chain_version = (chain_version + 1) % 8;
        slot_there = false; slot_found = false; slot_version = 0
    }
}

proctype Reader() {
    byte snapshot, clock, at = 0, value, birth, version, chain;
    snapshot = ended;
    clock_of(snapshot, 0, clock);
    chain = chain_version;
    if
    :: entry_there ->
        value = entry_value;                    /* each read by itself: the entry may be replaced in between */
        birth = entry_birth;
        version = slot_version;
        if
#ifdef BUG_NO_RECHECK
        :: version <= birth && birth <= clock ->
#else
        :: version <= birth && birth <= clock && chain == chain_version && entry_there ->
#endif
#ifdef REACH_HIT
            assert(false);                      /* must be violated: a hit can be reached */
#endif
            assert(value == (snapshot & committed))   /* neither stale (I1) nor early (I2); aborts leave no trace (I3) */
        :: else
        fi
    :: else
    fi
}

init {
    byte i = 0;
    atomic {
        do :: i < WRITERS -> run Writer(i); i = i + 1 :: i == WRITERS -> break od;
        i = 0;
        do :: i < FILLERS -> run Filler(); i = i + 1 :: i == FILLERS -> break od;
        run Evictor();
        run FloorRaiser();
        run Reader();
        i = 0
    }
}
