#pragma once

// What only the build for tests has (CACHE_EXT_TESTING): points at which a transaction waits, so that a race happens on demand; rules of the
// protocol that can be broken, so that the tests which watch over them are seen to fail; and a statement (`cache_ext.debug_late_statement`) that is run
// before each commit, after this library's own work there, as another library may do. Elsewhere all of it compiles to nothing.

#include <cstdint>

namespace cache_ext::pg::testing {

/// The rule that `cache_ext.debug_break` breaks.
enum class Break : std::uint8_t {
    kNothing,
    kStampLate,   ///< invalidations are stamped when their transaction is visible already
    kBirthAtSet,  ///< a value is taken to be as young as the set that brings it
    kNoRing,      ///< every registered transaction counts as finished for every snapshot
};

/// A place where the transaction waits while somebody else holds the advisory lock `kStopLock`, if `cache_ext.debug_stop_at` names it.
enum class Stop : std::uint8_t {
    kNowhere,
    kRegistered,  ///< the clock has gone on, nothing has its version yet
    kCommitting,  ///< everything is stamped, the transaction is not visible yet
};

/// What fails, if `cache_ext.debug_fail` names it, by an error of the server's.
enum class Fault : std::uint8_t {
    kNothing,
    kStorageRow,     ///< looking at a row that was written to the table of objects
    kStorageDeltas,  ///< writing down what a transaction changed of the usage
    kStorageMarks,   ///< that, and writing down that this failed
};

inline constexpr std::int64_t kStopLock = 7771;

#ifdef CACHE_EXT_TESTING
bool breaks(Break rule) noexcept;
/// Whether each hit is refreshed that chance could let be (`cache_ext.debug_refresh_early`).
bool refreshes_early() noexcept;
/// Raises if this is to fail.
void fail(Fault fault);
/// May raise, as waiting for a lock may.
void reach(Stop stop);
/// As if the processor were given to somebody else for a moment: in a gap that is too short to be met by chance.
void pause() noexcept;
void init();
#else
constexpr bool breaks(Break /*rule*/) noexcept { return false; }
constexpr bool refreshes_early() noexcept { return false; }
constexpr void fail(Fault /*fault*/) noexcept {}
constexpr void reach(Stop /*stop*/) noexcept {}
constexpr void pause() noexcept {}
constexpr void init() noexcept {}
#endif

}  // namespace cache_ext::pg::testing
