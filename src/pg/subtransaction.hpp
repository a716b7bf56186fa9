#pragma once

// Work that must not fail whoever happens to be there: in an internal subtransaction.

#include "pg/prelude.hpp"

namespace cache_ext::pg {

namespace detail {
using Attempt = void (*)(const void* body) noexcept;
ErrorData* run_attempt(Attempt attempt, const void* body, bool keeps);
}  // namespace detail

/// Runs `body` in an internal subtransaction. Null: it is done. Otherwise it is rolled back, and this is the error, in the caller's memory context. Whoever was
/// told to stop does: that error is raised again. The body keeps trivial locals only and throws nothing. Not while a parallel plan runs.
template <class F>
[[nodiscard]] ErrorData* attempt(F&& body) {
    using Body = std::remove_reference_t<F>;
    return detail::run_attempt(
        [](const void* it) noexcept { (*static_cast<Body*>(const_cast<void*>(it)))(); }, &body, true);
}

/// The same, and rolled back in any case: whether it would be done. Null: it would.
template <class F>
[[nodiscard]] ErrorData* try_out(F&& body) {
    using Body = std::remove_reference_t<F>;
    return detail::run_attempt(
        [](const void* it) noexcept { (*static_cast<Body*>(const_cast<void*>(it)))(); }, &body, false);
}

}  // namespace cache_ext::pg
