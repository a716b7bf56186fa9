#include "redis/reply_reader.hpp"

#include <hiredis/hiredis.h>

#include <new>
#include <string>
#include <utility>

namespace cache_ext::redis {

namespace {

using Budget = ReplyReader::Budget;

// The type of an array's length, and RESP3's types, which nobody asks the server for but anybody may send.
#if HIREDIS_MAJOR >= 1
using Length = std::size_t;
#else
using Length = int;
#endif

/// Where the reply that a task reads is to be: a new one, or the next element of its array. Only an array's last element can be unfinished,
/// so none that still grows is moved when its array does. Null: there is no memory for it, or it is too much.
Reply* place(const redisReadTask* task, std::size_t text_bytes) noexcept {
    auto* budget = static_cast<Budget*>(task->privdata);
    const std::size_t bytes = sizeof(Reply) + text_bytes;
    if (task->parent == nullptr) *budget = {};
    int depth = 0;
    for (const redisReadTask* outer = task->parent; outer != nullptr && depth <= kDeepestReply;
         outer = outer->parent)
        ++depth;
    budget->is_exceeded =
        budget->is_exceeded || depth > kDeepestReply || bytes > kLargestReply - budget->bytes;
    if (budget->is_exceeded) return nullptr;
    budget->bytes += bytes;
    try {
        if (task->parent == nullptr) return new Reply;
        return &static_cast<Reply*>(task->parent->obj)->elements.emplace_back();
    } catch (...) {
        return nullptr;
    }
}

void free_object(void* object) noexcept { delete static_cast<Reply*>(object); }

void* create_string(const redisReadTask* task, char* text, std::size_t size) noexcept {
    Reply* reply = place(task, size);
    if (reply == nullptr) return nullptr;
    try {
        reply->text.assign(text, size);
    } catch (...) {
        if (task->parent == nullptr) free_object(reply);
        return nullptr;
    }
    switch (task->type) {
        case REDIS_REPLY_ERROR:
            reply->kind = Reply::Kind::kError;
            reply->verdict = judge(reply->text);
            break;
        case REDIS_REPLY_STATUS:
            reply->kind = Reply::Kind::kStatus;
            break;
        default:
            reply->kind = Reply::Kind::kString;
            break;
    }
    return reply;
}

void* create_array(const redisReadTask* task, Length /*claimed*/) noexcept {
    Reply* reply = place(task, 0);
    if (reply != nullptr) reply->kind = Reply::Kind::kArray;
    return reply;
}

void* create_integer(const redisReadTask* task, long long value) noexcept {
    Reply* reply = place(task, 0);
    if (reply == nullptr) return nullptr;
    reply->kind = Reply::Kind::kInteger;
    reply->integer = value;
    return reply;
}

void* create_nil(const redisReadTask* task) noexcept { return place(task, 0); }

#if HIREDIS_MAJOR >= 1
void* create_double(const redisReadTask* task, double /*value*/, char* text, std::size_t size) noexcept {
    return create_string(task, text, size);
}

void* create_bool(const redisReadTask* task, int value) noexcept { return create_integer(task, value); }
#endif

redisReplyObjectFunctions* functions() noexcept {
    static redisReplyObjectFunctions functions = [] {
        redisReplyObjectFunctions f{};
        f.createString = create_string;
        f.createArray = create_array;
        f.createInteger = create_integer;
        f.createNil = create_nil;
#if HIREDIS_MAJOR >= 1
        f.createDouble = create_double;
        f.createBool = create_bool;
#endif
        f.freeObject = free_object;
        return f;
    }();
    return &functions;
}

}  // namespace

ReplyReader::ReplyReader()
    : reader_(redisReaderCreateWithFunctions(functions())), is_own_(true), budget_(nullptr) {
    if (reader_ == nullptr) throw std::bad_alloc();
    try {
        budget_ = std::make_unique<Budget>();
    } catch (...) {
        redisReaderFree(reader_);
        throw;
    }
    reader_->privdata = budget_.get();
}

ReplyReader::ReplyReader(redisReader* borrowed)
    : reader_(borrowed), is_own_(false), budget_(std::make_unique<Budget>()) {
    reader_->fn = functions();
    reader_->privdata = budget_.get();
}

ReplyReader::~ReplyReader() {
    if (is_own_) redisReaderFree(reader_);
}

bool ReplyReader::feed(std::string_view bytes) noexcept {
    return redisReaderFeed(reader_, bytes.data(), bytes.size()) == REDIS_OK;
}

ReplyReader::Item ReplyReader::next(Reply& reply) noexcept {
    void* object = nullptr;
    if (reader_->err != 0 || redisReaderGetReply(reader_, &object) != REDIS_OK) return Item::kBroken;
    if (object == nullptr) {
        // Of a text nothing is built before its last byte.
        if (reader_->len - reader_->pos <= kLargestReply) return Item::kMore;
        budget_->is_exceeded = true;
        return Item::kBroken;
    }
    std::unique_ptr<Reply> built(static_cast<Reply*>(object));
    reply = std::move(*built);
    return Item::kReply;
}

const char* ReplyReader::error() const noexcept {
    return budget_->is_exceeded ? "a reply is too large, or too deep" : reader_->errstr;
}

}  // namespace cache_ext::redis
