/*
 * Watching begins somewhere (src/core/watches.hpp, watch_relations and wrote_watched in src/pg/writes.cpp).
 *
 * A writer tells what it has written only where a cell is marked; a result is kept only once all who may have looked before the mark have ended for
 * every snapshot. The clock and the tags are those of clock.pml, where their own steps are proved; here they are one step each.
 *
 * Two cells, since a result waits for all of its relations with one look at the horizon: writer i writes the relation of cell i % 2, and the
 * result depends on both. With CELLS=1 there is but one. Transaction ids are given out as transactions begin: the i-th has the id i.
 *
 * Deliberate bugs, each switched on by a define, that the checker must find:
 *   NEXT_FIRST      the next id read before the mark is set
 *   LOOK_FIRST      the writer looks before it has its id
 *   ANY_LAST        the flag that anything is watched set after the next id was read
 *   NO_WAIT         kept at once
 *   RUNNING_ONLY    ripe when no transaction below the id is running, whatever snapshots are held
 *   OWN_SNAPSHOT    ripe when they have ended for the own snapshot, whatever others hold
 *   ONE_CELL        the wait is for the last cell's id only
 * REACH_HIT turns a hit into a violation, to show that there are hits.
 */

#ifndef WRITERS
#define WRITERS 3
#endif
#ifndef FILLERS
#define FILLERS 2
#endif
#ifndef CELLS
#define CELLS 2
#endif
#ifndef TRIES
#define TRIES 2                 /* how often each computes */
#endif

#define BIT(i) (1 << (i))
#define HAS(set, i) ((set) & BIT(i))
#define XMIN(s) (HAS(s, 0) -> (HAS(s, 1) -> (HAS(s, 2) -> (HAS(s, 3) -> 4 : 3) : 2) : 1) : 0)
#define NONE 15
#define READER FILLERS

/* The server. */
byte next = 0;
byte ended = 0, committed = 0;
byte held[FILLERS + 1];         /* the oldest xmin of each session's snapshots; NONE */

/* The region. */
bool any = false;
byte cell[2];

#define UNMARKED 0
#define MARKED 1
#define RIPE 255
#define ID(next) ((next) + 2)
byte now = 0;
byte writer_of[WRITERS + 1];
byte version = 0;
bool linked = false;
byte value = 0, birth = 0;
byte done = 0, begun = 0;

#define MIN(a, b) ((a) < (b) -> (a) : (b))
/* What is running, and what is held, under the lock that ends take: so no snapshot that is being taken is missed. */
#if FILLERS == 1
#define HORIZON MIN(XMIN(ended), MIN(held[0], held[1]))
#else
#define HORIZON MIN(XMIN(ended), MIN(held[0], MIN(held[1], held[2])))
#endif

inline clock_of(s, result) {
    result = now;
    at = now;
    do
    :: at > 0 -> if :: HAS(s, writer_of[at]) :: else -> result = at - 1 fi; at = at - 1
    :: else -> break
    od
}

proctype Writer(byte me) {
    byte v = 0;
    bool tells = false;
#ifdef BUG_LOOK_FIRST
    tells = any && cell[me % CELLS] != UNMARKED;
    atomic { next == me -> next = next + 1 }
#else
    atomic { next == me -> next = next + 1 }
    if                                          /* wrote_watched */
    :: any -> tells = cell[me % CELLS] != UNMARKED
    :: !any
    fi;
#endif
    if
    :: tells ->
        d_step { now = now + 1; v = now; writer_of[v] = me; tells = false }
        d_step { version = (version < v -> v : version); v = 0 }
    :: else
    fi;
    if
    :: d_step { ended = ended | BIT(me); committed = committed | BIT(me); done = done + 1 }
    :: d_step { ended = ended | BIT(me); done = done + 1 }
    fi
}

/* Watches::watch */
inline watch(i) {
#ifdef BUG_NEXT_FIRST
    id = next;
#endif
    seen = cell[i];
    if
    :: seen == RIPE -> skip
    :: seen != RIPE && seen > MARKED -> newest = (newest < seen -> seen : newest)
    :: seen <= MARKED ->
#ifndef BUG_ANY_LAST
        any = true;
#endif
        if
        :: seen == UNMARKED -> cell[i] = (cell[i] == UNMARKED -> MARKED : cell[i])
        :: else
        fi;
#ifndef BUG_NEXT_FIRST
        id = next;
#endif
#ifdef BUG_ANY_LAST
        any = true;
#endif
        d_step {
            if
            :: cell[i] == MARKED -> cell[i] = ID(id); seen = ID(id)
            :: else -> seen = cell[i]
            fi;
#ifdef BUG_ONE_CELL
            newest = (seen == RIPE -> 0 : seen)
#else
            newest = (seen != RIPE && newest < seen -> seen : newest)
#endif
        }
    fi;
    d_step { seen = 0; id = 0 }
}

proctype Filler(byte me) {
    byte left = TRIES, snapshot = 0, at = 0, clock = 0, seen = 0, id = 0, newest = 0, horizon = 0;
    atomic { begun == me -> begun = begun + 1 }
    do
    :: left > 0 ->
        d_step { left = left - 1; snapshot = ended; held[me] = XMIN(snapshot) }
        d_step { clock_of(snapshot, clock) }
        /* It computes, under this snapshot; then watch_relations. */
        if                                      /* each its own relations first */
        :: me == 0 -> watch(0); watch(CELLS - 1)
        :: me != 0 -> watch(CELLS - 1); watch(0)
        fi;
        if
        :: newest == 0
        :: newest != 0 ->
#if defined(BUG_NO_WAIT)
            horizon = NONE;
#elif defined(BUG_RUNNING_ONLY)
            horizon = XMIN(ended);
#elif defined(BUG_OWN_SNAPSHOT)
            horizon = XMIN(snapshot);
#else
            horizon = HORIZON;
#endif
            if
            :: ID(horizon) >= newest -> cell[0] = RIPE; cell[CELLS - 1] = RIPE; newest = 0
            :: else
            fi
        fi;
        d_step {
            if
            :: newest == 0 && version <= clock -> linked = true; value = snapshot & committed; birth = clock
            :: else
            fi;
            held[me] = NONE; snapshot = 0; clock = 0; newest = 0; horizon = 0
        }
    :: atomic { left = 0; done = done + 1; break }
    od
}

/* It keeps its snapshot for as long as it likes. */
proctype Reader() {
    byte snapshot = 0, clock = 0, at = 0;
    d_step { snapshot = ended; held[READER] = XMIN(snapshot) }
    d_step { clock_of(snapshot, clock) }
    atomic {
        if
        :: linked && version <= birth && birth <= clock ->
#ifdef REACH_HIT
            assert(false);
#endif
            assert(value == (snapshot & committed))
        :: else
        fi;
        held[READER] = NONE; snapshot = 0; clock = 0; done = done + 1
    }
}

init {
    byte i = 0, at = 0, clock = 0, seen = 0, id = 0, newest = 0;
    atomic {
        do :: i <= FILLERS -> held[i] = NONE; i = i + 1 :: else -> break od;
        i = 0;
        do :: i < WRITERS -> run Writer(i); i = i + 1 :: else -> break od;
        i = 0;
        do :: i < FILLERS -> run Filler(i); i = i + 1 :: else -> break od;
        run Reader();
        i = 0
    }
    /* When all is quiet, what is computed twice is kept. */
    atomic {
        done == WRITERS + FILLERS + 1;
        watch(0); watch(CELLS - 1);
        assert(newest == 0 || ID(HORIZON) >= newest);
        clock_of(ended, clock);
        assert(version <= clock)
    }
}
