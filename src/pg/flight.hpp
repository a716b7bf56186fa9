#pragma once

// Computing once for all sessions: a session's part in core::Flights, which says who computes and who waits. Here it waits, wakes others, and
// lands what it leads whatever becomes of it.

#include "core/flights.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// Leads the flight of `key` if nobody does, and otherwise does not wait: kLeads, kTaken or kAlone. Only after `attached()`.
core::Boarding lead_flight(std::uint64_t key, bool may_lead, std::uint32_t& flight);

/// What came of asking for a value that others may be computing.
enum class Arrival : std::uint8_t {
    kLeads,   ///< nobody computes it: this session does, and calls `land`
    kStored,  ///< it has been computed meanwhile, and is stored
    kAlone,   ///< this session computes it, for itself
};

/// The same, but waits for whoever leads: until they have landed, at most cache_ext.single_flight_timeout and a quarter of statement_timeout.
/// Not where that could be for ever: where the leader waits for this session, for a lock that it holds or for its flight. Raises as waiting for a lock does.
Arrival join_flight(std::uint64_t key, bool may_lead, std::uint32_t& flight);

/// Ends a flight that this session leads, and wakes who waits for it.
void land(std::uint32_t flight, core::Landing how) noexcept;

/// Whether a key is not to be refreshed yet because that has failed lately, by this session's cache_ext.refresh_pause.
bool rests(std::uint64_t key) noexcept;

/// What refreshed a key has failed; it began at `begin`.
void note_failed_refresh(std::uint64_t key, core::Timestamp begin) noexcept;

/// At the end of the session: whatever it leads has failed.
void end_flights() noexcept;

}  // namespace cache_ext::pg
