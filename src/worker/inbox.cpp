#include "worker/inbox.hpp"

#include <string_view>

#include "api/context.hpp"
#include "core/glob.hpp"
#include "pg/guard.hpp"
#include "pg/outbox.hpp"
#include "pg/space.hpp"
#include "pg/subtransaction.hpp"
#include "pg/transaction.hpp"
#include "pg/utf8.hpp"
#include "redis/json.hpp"

extern "C" {
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
}

namespace cache_ext::worker {

namespace {

constexpr std::size_t kMostMessages = 10'000;
constexpr std::size_t kMostBytes = 16 * 1024 * 1024;

/// What cannot be read is told at most so often: it may come from anybody.
constexpr TimestampTz kComplainEvery = 60 * USECS_PER_SEC;

/// The object's member of that name, or null.
JsonbValue* member(Jsonb* object, const char* name) {
    return getKeyJsonValueFromContainer(&object->root, name, static_cast<int>(std::strlen(name)), nullptr);
}

std::string_view text_member(Jsonb* object, const char* name) {
    const JsonbValue* value = member(object, name);
    if (value == nullptr || value->type != jbvString) return {};
    return {value->val.string.val, static_cast<std::size_t>(value->val.string.len)};
}

/// Calls `visit(text)` for the texts of a member that is an array.
template <class Visit>
void for_each_text(Jsonb* object, const char* name, Visit&& visit) {
    const JsonbValue* array = member(object, name);
    if (array == nullptr || array->type != jbvBinary) return;
    JsonbIterator* iterator = JsonbIteratorInit(array->val.binary.data);
    JsonbValue value;
    JsonbIteratorToken token;
    while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE) {
        if (token == WJB_ELEM && value.type == jbvString)
            visit(std::string_view(value.val.string.val, static_cast<std::size_t>(value.val.string.len)));
    }
}

/// Longer ones than may be are of no entry here.
void invalidate_named(Jsonb* message) {
    const core::Scope scope = api::shared_scope(pg::caller());
    const core::Scope space{{}, scope.space, {}, false};
    for_each_text(message, "tags", [&](std::string_view tag) {
        if (!tag.empty() && tag.size() <= core::kMaxTagBytes)
            pg::invalidate(pg::InvalidationKind::kTag, space, tag);
    });
    for_each_text(message, "keys", [&](std::string_view key) {
        if (!key.empty() && key.size() <= core::kMaxKeyBytes)
            pg::invalidate(pg::InvalidationKind::kKeyEverywhere, scope, key);
    });
    for_each_text(message, "patterns", [&](std::string_view pattern) {
        if (!core::glob_valid(pattern)) return;
        // A long one may be of short keys.
        pg::invalidate(pg::InvalidationKind::kPatternEverywhere, scope,
                       pattern.size() <= core::kMaxKeyBytes ? pattern : std::string_view("*"));
    });
}

void invalidate_everything() {
    pg::invalidate(pg::InvalidationKind::kSpace, {{}, api::space_id(), {}, false}, {});
}

struct Own {
    const char* origin;
    const char* database;
};

void read_message(const std::string& text, const Own& own) {
    Jsonb* const message = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.c_str())));
    if (!JB_ROOT_IS_OBJECT(message))
        ereport(ERROR, (errcode(ERRCODE_INVALID_JSON_TEXT), errmsg("the message is no JSON object")));
    if (text_member(message, "origin") == own.origin && text_member(message, "database") == own.database)
        return;
    const JsonbValue* all = member(message, "all");
    if (all != nullptr && all->type == jbvBool && all->val.boolean) invalidate_everything();
    invalidate_named(message);
}

/// What is no message is left out.
void read_safely(const std::string& text, const Own& own) {
    static constinit TimestampTz complained_at = 0;
    ErrorData* error = pg::attempt([&] { read_message(text, own); });
    if (error == nullptr) return;
    if (GetCurrentTimestamp() - complained_at > kComplainEvery) {
        complained_at = GetCurrentTimestamp();
        ereport(LOG, (errmsg("could not read a message from Redis: %s", error->message)));
    }
    FreeErrorData(error);
}

}  // namespace

void Inbox::add(std::string_view message) noexcept {
    ++received_;
    if (everything_) return;
    try {
        if (messages_.size() < kMostMessages && bytes_ + message.size() <= kMostBytes) {
            messages_.emplace_back(message);
            bytes_ += message.size();
            return;
        }
    } catch (const std::bad_alloc&) {
    }
    forget_everything();
}

void Inbox::apply(const std::string& own_origin, const std::string& own_database) {
    const Own own{own_origin.c_str(), own_database.c_str()};
    // A name in characters that this database has not is of nothing here; the others that are told with it are.
    for (std::string& message : messages_)
        message = pg::from_utf8(redis::readable_json(message));
    pg::pg_call([&] {
        if (!pg::current_space().exists) return;
        pg::set_told_by_redis(true);
        if (everything_) invalidate_everything();
        for (const std::string& message : messages_)
            read_safely(message, own);
    });
    // Lost with the transaction, should that fail: then whoever calls this begins anew, with everything.
    messages_.clear();
    bytes_ = 0;
    everything_ = false;
}

}  // namespace cache_ext::worker
