#pragma once

// The two-way guard between C++ exceptions and the server's errors.
//
//   C++ → server   CACHE_EXT_FUNCTION and guarded(): an exception that leaves the body becomes an ereport,
//                  raised after the catch block was left, so that the exception object is freed. Without an
//                  exception it costs nothing: no sigsetjmp.
//   server → C++   pg_call(): runs code of the server beneath C++ objects; an ERROR becomes a PgError that
//                  carries every field of the report, and turns into the same report at the outer guard.
//
// An ERROR jumps over C++ frames without running destructors. So: either only trivial locals live between
// an outer guard and a call into the server, or the call goes through pg_call. Guard a batch, not each
// tuple. A PgError that is caught is thrown on, or the caller has set up an internal subtransaction and
// rolls it back; it is never dropped, since locks and buffers of the failed call may still be held.

#include <exception>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// A mistake to report to the caller, thrown where C++ objects are alive. Texts are in the database's
/// encoding; each is cut at kErrorTextLimit bytes, at a character's edge. Empty texts are left out.
class Error : public std::exception {
public:
    explicit Error(int sqlstate, std::string message, std::string detail = {}, std::string hint = {});

    [[nodiscard]] int sqlstate() const noexcept { return sqlstate_; }
    [[nodiscard]] const std::string& message() const noexcept { return message_; }
    [[nodiscard]] const std::string& detail() const noexcept { return detail_; }
    [[nodiscard]] const std::string& hint() const noexcept { return hint_; }
    [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

private:
    int sqlstate_;
    std::string message_;
    std::string detail_;
    std::string hint_;
};

/// Bytes kept of each text of an Error or a foreign exception.
inline constexpr std::size_t kErrorTextLimit = 1023;

/// A server ERROR caught by pg_call. Owns the report in a memory context of its own, independent of
/// any transaction. Move-only.
class PgError : public std::exception {
public:
    /// Takes over `context`, in which `data` and all it points to were allocated.
    PgError(ErrorData* data, MemoryContext context) noexcept : data_(data), context_(context) {}
    PgError(PgError&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), context_(std::exchange(other.context_, nullptr)) {}
    PgError(const PgError&) = delete;
    PgError& operator=(const PgError&) = delete;
    PgError& operator=(PgError&&) = delete;
    ~PgError() override;

    /// The whole report. Valid while this object lives and release() was not called.
    [[nodiscard]] const ErrorData& data() const noexcept { return *data_; }
    [[nodiscard]] int sqlstate() const noexcept { return data_->sqlerrcode; }
    [[nodiscard]] const char* what() const noexcept override;

    struct Report {
        ErrorData* data;
        MemoryContext context;
    };
    /// Hands the report over; whoever takes it deletes the context.
    [[nodiscard]] Report release() noexcept {
        return {std::exchange(data_, nullptr), std::exchange(context_, nullptr)};
    }

private:
    ErrorData* data_;
    MemoryContext context_;
};

/// Raises ERROR at once with ereport: for thin functions with nothing but trivial locals alive. Where C++
/// objects are alive, throw an Error instead. detail and hint may be null.
[[noreturn]] void raise(int sqlstate, const char* message, const char* detail = nullptr,
                        const char* hint = nullptr);

namespace detail {

/// Inside a catch block: moves the exception in flight into a fixed buffer. Neither throws nor raises.
[[gnu::cold]] void capture_exception() noexcept;

/// Raises what capture_exception() kept, as a server ERROR. Called once the catch block was left.
[[noreturn, gnu::cold]] void raise_captured();

using Thunk = void (*)(void*) noexcept;

/// Runs thunk(argument) inside PG_TRY. nullopt: it returned. Otherwise the ERROR's report, its error state
/// flushed, and memory context, error context stack and interrupt holdoff as they were on entry; a null report:
/// there was no memory to copy it.
[[nodiscard]] std::optional<PgError::Report> run_protected(Thunk thunk, void* argument) noexcept;

[[noreturn, gnu::cold]] void throw_report(PgError::Report report);

}  // namespace detail

/// Runs `body`, a callable that may throw, where C code called us (hooks, callbacks); an exception becomes
/// a server ERROR. Not for callbacks that must not fail (XACT_EVENT_COMMIT, shmem exit).
template <class F>
auto guarded(F&& body) -> std::invoke_result_t<F> {
    try {
        return std::forward<F>(body)();
    } catch (...) {
        detail::capture_exception();
    }
    detail::raise_captured();
}

/// Runs `body`, which calls into the server, beneath C++ objects with destructors. A server ERROR becomes a
/// PgError (or std::bad_alloc if not even its report could be copied); a C++ exception of the body passes unchanged.
/// The body itself keeps only trivial locals alive across calls into the server. Returns what the body
/// returns (an object or nothing, no reference). Costs one sigsetjmp, some 10 ns. Not for code that runs while the
/// server handles another error (error context callbacks, abort callbacks): it flushes the error state.
template <class F>
auto pg_call(F&& body) -> std::invoke_result_t<F> {
    using Result = std::invoke_result_t<F>;
    static_assert(!std::is_reference_v<Result>, "return a pointer or an object");

    struct Empty {};
    struct State {
        std::remove_reference_t<F>& body;
        std::exception_ptr exception;
        std::optional<std::conditional_t<std::is_void_v<Result>, Empty, Result>> result;
    };
    State state{body, nullptr, std::nullopt};

    const auto report = detail::run_protected(
        [](void* argument) noexcept {
            auto& inner = *static_cast<State*>(argument);
            // An exception must not pass through PG_TRY: it would leave a dangling jump target.
            try {
                if constexpr (std::is_void_v<Result>) {
                    inner.body();
                } else {
                    inner.result.emplace(inner.body());
                }
            } catch (...) {
                inner.exception = std::current_exception();
            }
        },
        &state);

    if (report) [[unlikely]] {
        detail::throw_report(*report);
    }
    if (state.exception) [[unlikely]] {
        std::rethrow_exception(std::move(state.exception));
    }
    if constexpr (!std::is_void_v<Result>) {
        return std::move(*state.result);
    }
}

}  // namespace cache_ext::pg

/// Declares something for the server to find in this library, whatever the default visibility. What the server's own
/// macros declare needs it too, since on 15 they export nothing:
///     CACHE_EXT_EXPORT const Pg_magic_struct* Pg_magic_func(void);
///     extern "C" { PG_MODULE_MAGIC; }
#define CACHE_EXT_EXPORT extern "C" [[gnu::visibility("default")]]

/// Begins the definition of a function callable from SQL: declares it, exports it whatever the default
/// visibility, registers the version-1 calling convention and guards the body that follows:
///     CACHE_EXT_FUNCTION(cache_exists) { …; PG_RETURN_BOOL(found); }
/// The body sees `fcinfo`; it is a static function `<name>_impl`.
#define CACHE_EXT_FUNCTION(name)                               \
    static Datum name##_impl(FunctionCallInfo fcinfo);         \
    CACHE_EXT_EXPORT const Pg_finfo_record* pg_finfo_##name(); \
    CACHE_EXT_EXPORT Datum name(FunctionCallInfo fcinfo);      \
    extern "C" const Pg_finfo_record* pg_finfo_##name() {      \
        static const Pg_finfo_record record = {1};             \
        return &record;                                        \
    }                                                          \
    extern "C" Datum name(FunctionCallInfo fcinfo) {           \
        try {                                                  \
            return name##_impl(fcinfo);                        \
        } catch (...) {                                        \
            ::cache_ext::pg::detail::capture_exception();      \
        }                                                      \
        ::cache_ext::pg::detail::raise_captured();             \
    }                                                          \
    static Datum name##_impl([[maybe_unused]] FunctionCallInfo fcinfo)
