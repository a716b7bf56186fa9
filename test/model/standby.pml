/*
 * A standby that caches: what the primary logs, and when the standby may believe it.
 *
 * While the shared flag `logging` is set, a transaction that stamps on the primary logs what it invalidates before its commit record. The standby
 * replays one record after another; an invalidation takes a version of its own clock, registered for the transaction. Logging can be turned on and off
 * while transactions commit, and a standby can start anywhere in the log (a restart, a new base backup): its memory knows nothing of what came before.
 *
 *   on:   the flag is set; a record "begins"; the next transaction id is read; a record "on" with it.
 *   off:  a record "off"; then the flag is cleared.
 *   "begins" on the standby: noted. "on": if it is not on already and its beginning has been replayed since the memory was made, snapshots whose xmin is
 *   below the id may not use the cache, then whatever was born before is dead, and then it is used. "off": it is not, and the same.
 *   A session works out its snapshot's clock; after that it asks whether the cache is used, and holds the snapshot's xmin against the id.
 *
 * The clock and the tags are those of clock.pml, where their own steps are proved; here they are one step each. NO_ABORTS: every writer commits, which
 * nothing asks, so that it is the stronger claim.
 *
 * Deliberate bugs, each switched on by a define, that the checker must find:
 *   NEXT_FIRST      the next id read before the flag is set
 *   CLEAR_FIRST     the flag cleared before the record "off"
 *   COMMIT_FIRST    the commit record written before the invalidation
 *   LOOK_FIRST      a transaction looks at the flag before it has its id
 *   NO_FLOOR        "off" and "on" leave what was born before alive
 *   TOLD_FIRST      "on" lets the cache be used before what was born before is dead
 *   ASKED_FIRST     whether the cache is used is asked before the clock is worked out
 *   USABLE_FIRST    the snapshot's xmin is held against the id before its clock is worked out
 *   NO_BEGINNING    "on" believed although its beginning is not known
 *   OLDEST_UNASKED  only the active snapshot's xmin is held against the id, not that of the oldest one that the value may come from
 * REACH_HIT turns a hit into a violation, REACH_SECOND one when logging has been turned on again.
 */

#ifndef WRITERS
#define WRITERS 3
#endif
#ifndef FILLERS
#define FILLERS 1
#endif
#ifndef SWITCHES
#define SWITCHES 3              /* how often logging is turned on (or told to be on again) or off */
#endif

#define BIT(i) (1 << (i))
#define HAS(set, i) ((set) & BIT(i))
#define XMIN(s) (HAS(s, 0) -> (HAS(s, 1) -> (HAS(s, 2) -> (HAS(s, 3) -> 4 : 3) : 2) : 1) : 0)
#define NOBODY 7

/* The primary. */
byte next = 0;
bool logging = false;
/* The log. The standby may lag behind as far as it likes; but nothing on the primary asks how far it is, so that it makes no difference when the primary
   goes on. So one record that has not been replayed yet is enough, and what the primary does before it writes one it does right before. */
byte log = 0;
bool busy = false;              /* it has begun to */
#define PRIMARY log == 0 -> busy = true
#define INVALIDATION 8
#define COMMIT 16
#define ABORT 32
#define ON 48
#define OFF 64
#define BEGINS 80
inline append(record) { atomic { log == 0 -> log = record; busy = false } }

/* The standby. */
byte ended = 0, committed = 0;
bool alive = false;             /* whether its memory has been made */
bool told = false;              /* whether whatever is invalidated stands in the log */
byte usable_from = 0;           /* snapshots with an older xmin do not use the cache */
bool begins = false;
byte now = 0, writer_of[WRITERS + SWITCHES + 1];
byte version = 0, dead_below = 0;
#ifdef REACH_SECOND
byte times_on = 0;
#endif
bool linked = false;
byte value = 0, birth = 0;
byte done = 0, begun = 0;

inline clock_of(s, result) {
    result = now;
    at = now;
    do
    :: at > 0 -> if :: HAS((s) | BIT(NOBODY), writer_of[at]) :: else -> result = at - 1 fi; at = at - 1
    :: else -> break
    od
}

proctype Writer(byte me) {
    bool tells = false;
#ifdef BUG_LOOK_FIRST
    atomic { PRIMARY; tells = logging }
    atomic { next == me && PRIMARY; next = next + 1 }
#else
    atomic { next == me && PRIMARY; next = next + 1 }
    atomic { PRIMARY; tells = logging }
#endif
#ifdef BUG_COMMIT_FIRST
    append(COMMIT + me);
    if :: tells -> append(INVALIDATION + me) :: else fi;
#else
    if :: tells -> append(INVALIDATION + me) :: else fi;
    if
    :: append(COMMIT + me)
#ifndef NO_ABORTS
    :: append(ABORT + me)
#endif
    fi;
#endif
    atomic { tells = false; done = done + 1 }
}

proctype Switch() {
    byte left = SWITCHES, id = 0;
    do
    :: left > 0 ->
        left = left - 1;
        if
        :: true ->
#ifdef BUG_NEXT_FIRST
            atomic { PRIMARY; id = next }
            atomic { PRIMARY; logging = true }
            append(BEGINS);
#else
            atomic { PRIMARY; logging = true }
            append(BEGINS);
            atomic { PRIMARY; id = next }
#endif
            append(ON + id);
            id = 0
        :: logging ->
#ifdef BUG_CLEAR_FIRST
            atomic { PRIMARY; logging = false }
            append(OFF)
#else
            append(OFF);
            logging = false
#endif
        fi
    :: atomic { left = 0; done = done + 1; break }
    od
}

/* Region::forget_everything: a version that is registered for nobody, and then the floor of all that there is. */
inline forget_everything() {
    atomic { !busy -> now = now + 1; writer_of[now] = NOBODY }
    atomic { !busy -> dead_below = now }
}

proctype Redo() {
    byte record = 0, v = 0;
    do
    :: atomic { !busy && !alive -> alive = true }
    :: atomic { log != 0 -> record = log; log = 0 }
        if
        :: record >= BEGINS -> begins = alive
        :: record >= OFF && record < BEGINS ->
            atomic { !busy -> told = false; begins = false }
#ifndef BUG_NO_FLOOR
            forget_everything()
#endif
        :: record >= ON && record < OFF ->
            if
#ifdef BUG_NO_BEGINNING
            :: alive && !told ->
#else
            :: alive && !told && begins ->
#endif
#ifdef REACH_SECOND
                times_on = times_on + 1;
#endif
#ifdef BUG_TOLD_FIRST
                atomic { !busy -> told = true }
#endif
                atomic { !busy -> usable_from = (usable_from < record - ON -> record - ON : usable_from) }
#ifndef BUG_NO_FLOOR
                forget_everything();
#endif
#ifndef BUG_TOLD_FIRST
                atomic { !busy -> told = true }
#endif
            :: else
            fi;
            begins = false
        :: record >= ABORT && record < ON -> atomic { !busy -> ended = ended | BIT(record - ABORT) }
        :: record >= COMMIT && record < ABORT ->
            atomic { !busy -> ended = ended | BIT(record - COMMIT); committed = committed | BIT(record - COMMIT) }
        :: record < COMMIT ->
            if
            :: alive ->
                atomic { !busy -> now = now + 1; v = now; writer_of[v] = record - INVALIDATION }
                atomic { !busy -> version = (version < v -> v : version); v = 0 }
            :: else
            fi
        fi;
        record = 0
    :: atomic { done == WRITERS + 1 && log == 0 && alive -> break }
    od
}

proctype Filler(byte number) {
    byte oldest = 0, newer = 0, at = 0, clock = 0;
    atomic { alive && begun == number -> begun = begun + 1 }
    atomic { !busy -> oldest = ended };         /* what the value is computed under */
#ifdef BUG_OLDEST_UNASKED
    atomic { !busy -> newer = ended }
#endif
#ifdef BUG_ASKED_FIRST
    if :: !busy && !told -> goto out :: !busy && told fi;
#endif
#ifdef BUG_USABLE_FIRST
    if :: !busy && XMIN(oldest) < usable_from -> goto out :: !busy && XMIN(oldest) >= usable_from fi;
#endif
    atomic { !busy -> clock_of(oldest, clock) }
#ifndef BUG_ASKED_FIRST
    if :: !busy && !told -> goto out :: !busy && told fi;
#endif
#ifndef BUG_USABLE_FIRST
#ifdef BUG_OLDEST_UNASKED
    if :: !busy && XMIN(newer) < usable_from -> goto out :: !busy && XMIN(newer) >= usable_from fi;
#else
    if :: !busy && XMIN(oldest) < usable_from -> goto out :: !busy && XMIN(oldest) >= usable_from fi;
#endif
#endif
    if                                          /* or under a later snapshot than the lease's */
    :: atomic { !busy && oldest != ended -> oldest = ended }
    :: !busy
    fi;
    atomic {
        !busy;
        if
        :: version <= clock && dead_below <= clock -> linked = true; value = oldest & committed; birth = clock
        :: else
        fi
    }
out:
    atomic { oldest = 0; newer = 0; clock = 0 }
}

proctype Reader() {
    byte snapshot = 0, at = 0, clock = 0;
    alive;
    atomic { !busy -> snapshot = ended }
#ifdef BUG_ASKED_FIRST
    if :: !busy && !told -> goto out :: !busy && told fi;
#endif
#ifdef BUG_USABLE_FIRST
    if :: !busy && XMIN(snapshot) < usable_from -> goto out :: !busy && XMIN(snapshot) >= usable_from fi;
#endif
    atomic { !busy -> clock_of(snapshot, clock) }
#ifndef BUG_ASKED_FIRST
    if :: !busy && !told -> goto out :: !busy && told fi;
#endif
#ifndef BUG_USABLE_FIRST
    if :: !busy && XMIN(snapshot) < usable_from -> goto out :: !busy && XMIN(snapshot) >= usable_from fi;
#endif
    atomic {
        !busy;
        if
        :: linked && version <= birth && dead_below <= birth && birth <= clock ->
#ifdef REACH_HIT
            assert(false);
#endif
#ifdef REACH_SECOND
            assert(times_on < 2);
#endif
            assert(value == (snapshot & committed))
        :: else
        fi
    }
out:
    atomic { snapshot = 0; clock = 0 }
}

init {
    byte i = 0;
    atomic {
        do :: i < WRITERS -> run Writer(i); i = i + 1 :: else -> break od;
        i = 0;
        do :: i < FILLERS -> run Filler(i); i = i + 1 :: else -> break od;
        run Switch();
        run Redo();
        run Reader();
        i = 0
    }
}
