#pragma once

// The canonical form of the claims in request.jwt.claims: what of them makes a scope. Plain C++, no server.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cache_ext::pg {

/// Which top-level claims count.
struct ClaimsFilter {
    /// All but exp, iat, nbf, jti and session_id, which only mark time and token; `names` is ignored.
    bool all = true;
    std::vector<std::string> names;
};

struct CanonicalClaims {
    /// Equal for equal claims, whatever order of members, white space and escapes they are written with; different
    /// for different ones. Numbers are equal when they are written alike. Of duplicate members the last counts.
    std::string scope;
    /// The same of the claim `sub`; empty when there is none.
    std::string subject;
};

/// Deepest nesting of arrays and objects that is followed.
inline constexpr int kMaxClaimsDepth = 64;

/// nullopt: no JSON object, or nested deeper than kMaxClaimsDepth. Strict: whatever RFC 8259 does not allow
/// is no JSON, nor is \u0000 or half a surrogate pair. With `utf8` false (the text is in another encoding) an
/// escape of a character beyond ASCII is refused too, since it cannot be compared with the same character written
/// plainly. Time grows with the length times the depth. Throws std::bad_alloc.
[[nodiscard]] std::optional<CanonicalClaims> canonical_claims(std::string_view json,
                                                              const ClaimsFilter& filter, bool utf8);

}  // namespace cache_ext::pg
