#include "pg/queue_in_redis.hpp"

#include <map>
#include <memory>

#include "pg/attach.hpp"
#include "pg/guard.hpp"
#include "pg/outbox.hpp"
#include "pg/outcome.hpp"
#include "pg/queue.hpp"
#include "pg/redis_settings.hpp"
#include "pg/settings.hpp"
#include "pg/wait_set.hpp"
#include "redis/client.hpp"
#include "redis/taking.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/wait_event.h"
}

namespace cache_ext::pg {

namespace {

using redis::milliseconds;
using redis::Reply;
using redis::State;
using redis::TimePoint;

/// How many of the items that were rolled back a session puts back by itself. The others are the pusher's, which is a little later.
constexpr std::size_t kMostBack = 100;

/// Between two looks for an item that is on its way to Redis.
constexpr long kNapMs = 2;

TimePoint now() noexcept { return std::chrono::steady_clock::now(); }

/// A token of this session's that may be in Redis.
struct Own {
    std::string queue;
    std::string token;
    SubTransactionId subtransaction;
    bool is_back;  ///< rolled back
};

/// A session's connection, under one set of settings, and what it has taken.
struct Session {
    std::string configured;
    std::uint32_t changes = 0;
    milliseconds timeout{};
    milliseconds patience{};  ///< with a connection that is being made
    redis::Layout layout;
    std::string taker;
    std::string url_error;
    std::unique_ptr<redis::Client> client;
    std::map<std::string, TimePoint, std::less<>> noted;  ///< queues, and when (redis/taking.hpp)
    std::uint64_t connections = 0;                        ///< that were made when they were
    std::uint64_t tokens = 0;                             ///< the last number given; others begin elsewhere
    std::vector<Own> own;

    [[nodiscard]] redis::Takings takings() const { return {*client, layout, taker}; }
};

constinit Session* session = nullptr;

/// What the configuration says; what the table says has a counter.
std::string configuration() {
    std::string all;
    for (const char* each : {settings::redis_url, settings::redis_token, settings::redis_prefix})
        all.append(each == nullptr ? "" : each).push_back('\0');
    return all + std::to_string(settings::redis_timeout_ms);
}

void close_session(int /*code*/, Datum /*argument*/) noexcept {
    delete session;
    session = nullptr;
}

/// Begins anew where the settings are others than before.
Session& current_session() {
    if (session == nullptr) {
        session = new Session;
        // A half of the numbers is enough to begin with, whatever is added.
        if (pg_strong_random(&session->tokens, sizeof session->tokens)) session->tokens >>= 1;
        pg_call([] { on_proc_exit(close_session, Datum{0}); });
    }
    Session& s = *session;
    std::string configured = configuration();
    if (s.client && s.changes == redis_settings_changes() && s.configured == configured) return s;
    s.client.reset();
    s.noted.clear();
    const std::uint32_t changes = redis_settings_changes();
    RedisSettings settings = redis_settings();
    // Where it was taken from may be another place now.
    if (s.changes != changes || s.configured != configured)
        std::erase_if(s.own, [](const Own& each) { return each.is_back; });
    s.changes = changes;
    s.configured = std::move(configured);
    s.timeout = milliseconds(settings.timeout_ms);
    s.layout = {};
    s.layout.prefix = settings.prefix;
    s.taker = taker_name();
    s.url_error = std::move(settings.url_error);
    if (!settings.url) return s;
    // One sentinel, or node of a cluster, after the other may not answer.
    s.patience = s.timeout * static_cast<int>(std::max<std::size_t>(settings.url->endpoints.size(), 1) + 1);
    redis::Options options;
    options.url = std::move(*settings.url);
    options.token = std::move(settings.token);
    options.client_name = "cache_ext dequeue";
    options.connect_timeout = options.command_timeout = s.timeout;
    options.total_timeout = 2 * s.timeout;
    // Whoever asks next is to find it as soon as it is back.
    options.backoff.longest = milliseconds(500);
    options.seed = static_cast<std::uint64_t>(MyProcPid);
    s.client = redis::Client::make(std::move(options));
    s.connections = 0;
    return s;
}

/// As Redis says it, which may be any bytes.
std::string printable(std::string text) {
    for (char& c : text) {
        if (c < ' ' || c > '~') c = '?';
    }
    return text;
}

[[noreturn]] void throw_unreachable(const Session& s) {
    std::string why = s.url_error;
    if (s.client) why = s.client->status(now()).last_error;
    if (why.empty()) why = "Redis did not answer in time.";
    throw Error(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, "could not ask Redis for an item",
                printable(std::move(why)), "Nothing was taken. See cache_redis_status.");
}

[[noreturn]] void throw_refused(const Reply& reply) {
    const bool is_own_fault =
        reply.verdict == redis::Verdict::kPermanent || reply.verdict == redis::Verdict::kConfiguration;
    throw Error(is_own_fault ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
                             : ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
                "Redis refused to give an item", printable(reply.text));
}

[[noreturn]] void throw_lost(Session& s) {
    std::string why = s.client->status(now()).last_error;
    s.client.reset();
    throw Error(ERRCODE_CONNECTION_FAILURE, "Redis was asked for an item and did not answer",
                printable(why.empty() ? "No answer came in time." : std::move(why)),
                "If it has given one, that is put back when the transaction has been rolled back.");
}

/// Until it takes commands.
void connect(Session& s) {
    if (!s.client) throw_unreachable(s);
    {
        // Whether the other side has closed it meanwhile.
        pg_call([] {
            ResetLatch(MyLatch);
            CHECK_FOR_INTERRUPTS();
        });
        WaitSet set;
        bool woken = false;
        const TimePoint at = now();
        s.client->service(set.wait({s.client.get()}, at, milliseconds(0), woken), at);
        if (woken) pg_call([] { SetLatch(MyLatch); });
    }
    if (!s.client->can_take(now())) {
        (void)drive_until(*s.client, now() + s.patience, [&s] {
            const State state = s.client->status(now()).state;
            return s.client->can_take(now()) || state == State::kOpen || state == State::kMisconfigured;
        });
    }
    if (!s.client->can_take(now())) throw_unreachable(s);
    // Behind a new connection there may be a server that does not know what the last one did.
    const std::uint64_t connections = s.client->status(now()).connections;
    if (connections != s.connections) s.noted.clear();
    s.connections = connections;
}

/// The answer to what `submit` submits. Without one the connection is given up.
template <class Submit>
Reply ask(Session& s, Submit&& submit) {
    auto reply = std::make_shared<std::optional<Reply>>();
    if (!submit([reply](const Reply& r) { *reply = r; })) throw_unreachable(s);
    try {
        (void)drive_until(*s.client, now() + s.timeout, [&reply] { return reply->has_value(); });
    } catch (...) {
        s.client.reset();
        throw;
    }
    if (!reply->has_value() || (*reply)->verdict == redis::Verdict::kLost) throw_lost(s);
    return std::move(**reply);
}

/// The pusher is to look what has become of what was taken.
void tell_pusher() noexcept {
    // A session that is ending is not attached any more when its transaction is rolled back.
    if (!region()) return;
    region().pushers().touch_takings(MyDatabaseId);
    wake_pusher();
}

/// So that the pusher looks there.
void note_queue(Session& s, const std::string& queue) {
    const TimePoint at = now();
    const auto found = s.noted.find(queue);
    if (found != s.noted.end() && at < found->second + redis::kNotedFor) return;
    const Reply reply =
        ask(s, [&](redis::Handler handler) { return s.takings().note(queue, std::move(handler), at); });
    if (!reply.ok()) throw_refused(reply);
    s.noted.insert_or_assign(queue, at);
    tell_pusher();
}

/// Asks once. Without a token only whether there is one.
Reply ask_for_item(Session& s, const std::string& queue, const std::string& token) {
    std::vector<std::string> back;
    for (const Own& each : s.own) {
        if (each.is_back && each.queue == queue && back.size() < kMostBack) back.push_back(each.token);
    }
    Reply reply = ask(s, [&](redis::Handler handler) {
        return s.takings().take(queue, token, back, std::move(handler), now());
    });
    if (!reply.ok()) throw_refused(reply);
    std::erase_if(s.own, [&queue](const Own& each) { return each.is_back && each.queue == queue; });
    return reply;
}

/// The oldest item, or nothing.
std::optional<std::string> take_item(Session& s, const std::string& queue) {
    // An id costs a write to the log: not for an answer that there is nothing.
    if (!has_lasting_transaction_id() && ask_for_item(s, queue, {}).integer == 0) return std::nullopt;
    const LastingId id = pg_call([] { return lasting_transaction_id(); });
    const std::string token = redis::Token{id.transaction, ++s.tokens, id.timeline, id.position}.text();
    s.own.push_back({queue, token, GetCurrentSubTransactionId(), false});
    Reply reply = ask_for_item(s, queue, token);
    if (reply.kind == Reply::Kind::kString) return std::move(reply.text);
    s.own.pop_back();
    return std::nullopt;
}

Datum to_jsonb(const std::string& queue, const std::string& text) {
    return pg_call([&] {
        ErrorContextCallback context;
        context.previous = error_context_stack;
        context.callback = [](void* argument) {
            errcontext("item of queue \"%s\" in Redis", static_cast<const char*>(argument));
        };
        context.arg = const_cast<char*>(queue.c_str());
        error_context_stack = &context;
        const char* own = pg_any_to_server(text.c_str(), static_cast<int>(text.size()), PG_UTF8);
        const Datum data = DirectFunctionCall1(jsonb_in, CStringGetDatum(own));
        error_context_stack = context.previous;
        return data;
    });
}

void nap() {
    pg_call([] {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kNapMs, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    });
}

void on_transaction(XactEvent event) noexcept {
    if (session == nullptr || session->own.empty()) return;
    if (event != XACT_EVENT_ABORT && event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE) return;
    std::vector<Own>& own = session->own;
    bool any = false;
    for (Own& each : own) {
        any = any || !each.is_back;
        if (event == XACT_EVENT_ABORT) each.is_back = true;
    }
    std::erase_if(own, [](const Own& each) { return !each.is_back; });
    if (own.size() > kMostBack) own.erase(own.begin(), own.end() - kMostBack);
    // What ends a prepared transaction tells nobody; the pusher looks often for as long as it knows of one.
    if (any) tell_pusher();
}

void on_subtransaction(SubXactEvent event, SubTransactionId own, SubTransactionId parent) noexcept {
    if (session == nullptr || session->own.empty()) return;
    if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB) return;
    bool any = false;
    for (Own& each : session->own) {
        if (each.is_back || each.subtransaction != own) continue;
        if (event == SUBXACT_EVENT_COMMIT_SUB)
            each.subtransaction = parent;
        else
            each.is_back = any = true;
    }
    if (any) tell_pusher();
}

}  // namespace

std::string taker_name() {
    return std::to_string(GetSystemIdentifier()) + ":" + std::to_string(MyDatabaseId);
}

bool dequeue_from_redis(std::string_view queue, Datum& data) {
    const std::string name = pg_call([queue] {
        return std::string(
            pg_server_to_any(pnstrdup(queue.data(), queue.size()), static_cast<int>(queue.size()), PG_UTF8));
    });
    Session& s = current_session();
    const TimePoint until = now() + s.timeout;
    connect(s);
    note_queue(s, name);
    // What is committed here is on its way to the list; and what is no longer here was there before.
    for (bool is_last = false;;) {
        if (const std::optional<std::string> item = take_item(s, name)) {
            data = to_jsonb(std::string(queue), *item);
            return true;
        }
        if (is_last || now() >= until) return false;
        is_last = !pg_call([queue] { return queue_has_committed(queue); });
        if (is_last) continue;
        wake_pusher();
        nap();
    }
}

void init_queue_in_redis() {
    RegisterXactCallback([](XactEvent event, void* /*argument*/) { on_transaction(event); }, nullptr);
    RegisterSubXactCallback([](SubXactEvent event, SubTransactionId own, SubTransactionId parent,
                               void* /*argument*/) { on_subtransaction(event, own, parent); },
                            nullptr);
}

}  // namespace cache_ext::pg
