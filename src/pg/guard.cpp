#include "pg/guard.hpp"

#include <cstdarg>

extern "C" {
#include "mb/pg_wchar.h"
}

namespace cache_ext::pg {

Error::Error(int sqlstate, std::string message, std::string detail, std::string hint)
    : sqlstate_(sqlstate), message_(std::move(message)), detail_(std::move(detail)), hint_(std::move(hint)) {}

PgError::~PgError() {
    if (context_ != nullptr) {
        MemoryContextDelete(context_);
    }
}

const char* PgError::what() const noexcept {
    return data_ != nullptr && data_->message != nullptr ? data_->message : "server error";
}

void raise(int sqlstate, const char* message, const char* detail, const char* hint) {
    ereport(ERROR, errcode(sqlstate), errmsg_internal("%s", message),
            detail != nullptr ? errdetail_internal("%s", detail) : 0,
            hint != nullptr ? errhint("%s", hint) : 0);
    pg_unreachable();
}

namespace detail {
namespace {

/// What is between a left catch block and the ereport. One is enough: nothing runs in between.
struct Captured {
    PgError::Report report;
    int sqlstate;
    char message[kErrorTextLimit + 1];
    char detail[kErrorTextLimit + 1];
    char hint[kErrorTextLimit + 1];
};

constinit Captured captured{};

void keep(char (&target)[kErrorTextLimit + 1], std::string_view text) noexcept {
    const std::size_t length = text.copy(target, kErrorTextLimit);
    target[length] = '\0';
}

/// Cuts a character that keep() split.
void clip(char (&text)[kErrorTextLimit + 1]) {
    const int length = static_cast<int>(std::strlen(text));
    text[pg_mbcliplen(text, length, length)] = '\0';
}

}  // namespace

void capture_exception() noexcept {
    captured.report = {nullptr, nullptr};
    captured.sqlstate = ERRCODE_INTERNAL_ERROR;
    captured.detail[0] = captured.hint[0] = '\0';
    try {
        throw;
    } catch (PgError& error) {
        captured.report = error.release();
        if (captured.report.data == nullptr) {
            keep(captured.message, "a server error was reported twice");
        }
    } catch (const Error& error) {
        captured.sqlstate = error.sqlstate();
        keep(captured.message, error.message());
        keep(captured.detail, error.detail());
        keep(captured.hint, error.hint());
    } catch (const std::bad_alloc&) {
        captured.sqlstate = ERRCODE_OUT_OF_MEMORY;
        keep(captured.message, "out of memory");
    } catch (const std::exception& error) {
        keep(captured.message, error.what());
    } catch (...) {
        keep(captured.message, "unknown C++ exception");
    }
}

void raise_captured() {
    if (captured.report.data != nullptr) {
        // The report's own memory goes when the error that it becomes has been dealt with.
        MemoryContextSetParent(captured.report.context, ErrorContext);
        ReThrowError(captured.report.data);
        pg_unreachable();
    }
    clip(captured.message);
    clip(captured.detail);
    clip(captured.hint);
    raise(captured.sqlstate, captured.message, captured.detail[0] != '\0' ? captured.detail : nullptr,
          captured.hint[0] != '\0' ? captured.hint : nullptr);
}

std::optional<PgError::Report> run_protected(Thunk thunk, void* argument) noexcept {
    const MemoryContext outer_context = CurrentMemoryContext;
    // An ERROR zeroes both counts. Who holds an LWLock across the call releases it while the exception
    // unwinds, and each release counts down once.
    const uint32 interrupt_holdoff = InterruptHoldoffCount;
    const uint32 cancel_holdoff = QueryCancelHoldoffCount;
    volatile bool failed = false;
    ErrorData* volatile data = nullptr;
    MemoryContext volatile context = nullptr;

    PG_TRY();
    { thunk(argument); }
    PG_CATCH();
    { failed = true; }
    PG_END_TRY();

    if (!failed) {
        return std::nullopt;
    }

    PG_TRY();
    {
        // CopyErrorData refuses to work in ErrorContext.
        context = AllocSetContextCreate(TopMemoryContext, "cache_ext error report", ALLOCSET_SMALL_SIZES);
        MemoryContextSwitchTo(context);
        data = CopyErrorData();
    }
    PG_CATCH();
    { data = nullptr; }
    PG_END_TRY();

    MemoryContextSwitchTo(outer_context);
    FlushErrorState();
    if (data == nullptr && context != nullptr) {
        MemoryContextDelete(context);
        context = nullptr;
    }
    InterruptHoldoffCount = interrupt_holdoff;
    QueryCancelHoldoffCount = cancel_holdoff;
    return PgError::Report{data, context};
}

void throw_report(PgError::Report report) {
    if (report.data == nullptr) {
        throw std::bad_alloc{};
    }
    throw PgError{report.data, report.context};
}

}  // namespace detail
}  // namespace cache_ext::pg
