#include "redis/rest.hpp"

#include "redis/unavailable.hpp"

#ifdef CACHE_EXT_REDIS_REST

#include <algorithm>
#include <deque>
#include <utility>

#include "redis/answer.hpp"
#include "redis/http.hpp"
#include "redis/json.hpp"
#include "redis/link.hpp"
#include "redis/redact.hpp"

namespace cache_ext::redis {

namespace {

/// What one HTTP request holds at most.
constexpr std::size_t kMostInOne = 1000;
constexpr std::size_t kMostBytesInOne = 512 * 1024;

constexpr std::string_view kProbe = R"([["PING"]])";

HttpOptions http_options(const Options& options) {
    const bool is_loopback = options.url.is_plain_http;
    HttpOptions http;
    http.url = (is_loopback ? "http://" : "https://") + to_text(options.url.endpoints.front()) + "/pipeline";
    http.token = options.token;
    http.is_loopback = is_loopback;
    http.connect_timeout = options.connect_timeout;
    http.timeout = options.connect_timeout + options.command_timeout;
    return http;
}

class RestClient final : public Client {
public:
    explicit RestClient(Options options)
        : options_(std::move(options)),
          http_(http_options(options_)),
          backoff_(options_.backoff, options_.seed),
          breaker_(options_.breaker) {}

    std::span<const Interest> interests() const noexcept override { return http_.interests(); }
    std::uint64_t generation() const noexcept override { return http_.generation(); }
    TimePoint next_deadline() const noexcept override;
    void service(std::span<const Ready> ready, TimePoint now) noexcept override;

    bool can_take(TimePoint now) const noexcept override {
        return is_up_ && !is_closed_ && breaker_.allows(now) && tally_.in_flight < options_.most_in_flight &&
               buffered_ < options_.most_buffered;
    }

    bool submit(Command command, std::string_view routing_key, Handler handler,
                TimePoint now) noexcept override;

    bool submit_to(NodeId /*node*/, Command command, Handler handler, TimePoint now) noexcept override {
        return submit(command, {}, std::move(handler), now);
    }

    std::vector<NodeId> primaries() const override { return {0}; }
    std::uint64_t topology() const noexcept override { return 0; }
    Status status(TimePoint now) const override;
    void close(TimePoint now) noexcept override;

private:
    void send(TimePoint now);
    void begin(std::string_view body, TimePoint now);
    void take(const HttpResponse& response, TimePoint now);
    void take_replies(std::vector<Reply>& replies, TimePoint now);
    void fail(Verdict verdict, const std::string& why, TimePoint now) noexcept;
    void answer_sent(const Reply& reply) noexcept;
    void answer_all(const Reply& reply) noexcept;

    Options options_;
    Http http_;
    Tally tally_;
    Backoff backoff_;
    Breaker breaker_;
    std::deque<Request> waiting_;  ///< for the next HTTP request
    std::deque<Request> sent_;     ///< with the one under way
    std::size_t buffered_ = 0;
    bool is_up_ = false;
    bool is_probing_ = false;
    bool is_closed_ = false;
    Verdict last_verdict_ = Verdict::kOk;
    TimePoint retry_at_ = TimePoint::min();
    TimePoint up_since_{};
};

bool RestClient::submit(Command command, std::string_view /*routing_key*/, Handler handler,
                        TimePoint now) noexcept {
    if (command.empty() || !can_take(now)) return false;
    try {
        Request request;
        request.handler = std::move(handler);
        request.submitted_at = now;
        // Left empty where it cannot be said in JSON.
        char separator = '[';
        for (const std::string_view argument : command) {
            request.packed += separator;
            separator = ',';
            if (!append_json(request.packed, argument)) {
                request.packed.clear();
                break;
            }
        }
        if (!request.packed.empty()) request.packed += ']';
        waiting_.push_back(std::move(request));
        buffered_ += waiting_.back().packed.size();
    } catch (...) {
        return false;
    }
    breaker_.attempt();
    ++tally_.commands;
    ++tally_.in_flight;
    return true;
}

/// Begins with the next HTTP request, if there is something for it.
void RestClient::send(TimePoint now) {
    if (http_.is_under_way() || is_closed_) return;
    if (!is_up_) {
        if (now < retry_at_ || !breaker_.allows(now)) return;
        breaker_.attempt();
        is_probing_ = true;
        return begin(kProbe, now);
    }
    std::string body;
    while (!waiting_.empty() && sent_.size() < kMostInOne && body.size() < kMostBytesInOne) {
        Request& next = waiting_.front();
        if (next.packed.empty()) {
            if (!sent_.empty()) break;  // in its turn
            const Request refused = std::move(next);
            waiting_.pop_front();
            answer(tally_, refused.handler,
                   error_reply(Verdict::kPermanent, "the REST interface takes UTF-8 only"));
            continue;
        }
        body += body.empty() ? '[' : ',';
        body += next.packed;
        buffered_ -= next.packed.size();
        sent_.push_back(std::move(next));
        waiting_.pop_front();
    }
    if (sent_.empty()) return;
    body += ']';
    begin(body, now);
}

void RestClient::begin(std::string_view body, TimePoint now) {
    if (!http_.post(std::string(body))) fail(Verdict::kReconnect, "the request cannot be made", now);
}

void RestClient::take(const HttpResponse& response, TimePoint now) {
    if (response.code == 0) return fail(Verdict::kReconnect, response.error, now);
    const std::optional<Reply> json = parse_json(response.body);
    if (response.code == 200) {
        const std::size_t due = is_probing_ ? 1 : sent_.size();
        std::vector<Reply> replies;
        bool is_good = json && json->kind == Reply::Kind::kArray && json->elements.size() == due;
        for (std::size_t i = 0; is_good && i < due; ++i) {
            const Reply* result = member(json->elements[i], "result");
            const Reply* error = member(json->elements[i], "error");
            if (error != nullptr && error->kind == Reply::Kind::kString) {
                replies.push_back(error_reply(judge(error->text), error->text));
            } else if (result != nullptr) {
                replies.push_back(*result);
            } else {
                is_good = false;
            }
        }
        if (!is_good)
            return fail(Verdict::kReconnect, "the server's reply is not one of the REST interface", now);
        return take_replies(replies, now);
    }
    // The whole of it was refused.
    const Reply* error = json ? member(*json, "error") : nullptr;
    std::string text = "the server answers with HTTP status " + std::to_string(response.code);
    if (error != nullptr && error->kind == Reply::Kind::kString)
        text += ": " + redacted(error->text, options_.token);
    if (response.code == 401 || response.code == 403) return fail(Verdict::kConfiguration, text, now);
    if (response.code >= 400 && response.code < 500 && response.code != 408 && response.code != 429 &&
        !is_probing_) {
        // One of these commands; which, it does not say.
        tally_.note_error(text, now);
        breaker_.succeeded();
        const Verdict verdict = error != nullptr ? judge(error->text) : Verdict::kPermanent;
        return answer_sent(error_reply(verdict, text));
    }
    fail(Verdict::kRetryLater, text, now);
}

void RestClient::take_replies(std::vector<Reply>& replies, TimePoint now) {
    if (std::exchange(is_probing_, false)) {
        const Reply& reply = replies.front();
        if (!reply.ok() && reply.verdict != Verdict::kPermanent && !reply.text.starts_with("NOPERM"))
            return fail(reply.verdict, redacted(reply.text, options_.token), now);
        is_up_ = true;
        up_since_ = now;
        last_verdict_ = Verdict::kOk;
        ++tally_.connections;
        if (breaker_.state(now) != Breaker::State::kClosed) breaker_.succeeded();
        return;
    }
    std::deque<Request> sent = std::exchange(sent_, {});
    for (std::size_t i = 0; i < sent.size(); ++i) {
        tally_.note_reply(now - sent[i].submitted_at);
        if (replies[i].verdict == Verdict::kRetryLater) {
            breaker_.failed(now);
            tally_.note_error(replies[i].text, now);
        } else {
            breaker_.succeeded();
            backoff_.succeeded();
        }
        answer(tally_, sent[i].handler, replies[i]);
    }
}

/// Gives up what is under way, and what waits behind it.
void RestClient::fail(Verdict verdict, const std::string& why, TimePoint now) noexcept {
    is_up_ = is_probing_ = false;
    last_verdict_ = verdict;
    breaker_.failed(now);
    retry_at_ = now + backoff_.next();
    tally_.note_error(why, now);
    Reply reply;
    reply.kind = Reply::Kind::kError;
    reply.verdict = Verdict::kLost;
    try {
        reply.text = why;
    } catch (...) {
    }
    answer_all(reply);
}

void RestClient::answer_sent(const Reply& reply) noexcept {
    std::deque<Request> sent;
    sent.swap(sent_);
    for (const Request& request : sent)
        answer(tally_, request.handler, reply);
}

void RestClient::answer_all(const Reply& reply) noexcept {
    answer_sent(reply);
    std::deque<Request> waiting;
    waiting.swap(waiting_);
    buffered_ = 0;
    for (const Request& request : waiting)
        answer(tally_, request.handler, reply);
}

void RestClient::service(std::span<const Ready> ready, TimePoint now) noexcept {
    if (is_closed_) return;
    try {
        if (const std::optional<HttpResponse> response = http_.service(ready, now)) take(*response, now);
        if (is_up_ && !waiting_.empty() && now >= waiting_.front().submitted_at + options_.total_timeout) {
            http_.cancel();
            fail(Verdict::kReconnect, "a command was not answered in time", now);
        }
        send(now);
    } catch (...) {
        http_.cancel();
        fail(Verdict::kReconnect, "out of memory", now);
    }
}

TimePoint RestClient::next_deadline() const noexcept {
    if (is_closed_) return kNever;
    TimePoint deadline = http_.next_deadline();
    if (http_.is_under_way()) {
        if (!waiting_.empty())
            deadline = std::min(deadline, waiting_.front().submitted_at + options_.total_timeout);
        return deadline;
    }
    if (is_up_) return waiting_.empty() ? deadline : TimePoint::min();
    const TimePoint breaker = breaker_.retry_at();
    return std::min(deadline, breaker == kNever ? retry_at_ : std::max(retry_at_, breaker));
}

Status RestClient::status(TimePoint now) const {
    Status status;
    tally_.report(status);
    status.breaker = breaker_.state(now);
    status.up_since = up_since_;
    status.buffered_bytes = buffered_;
    status.nodes = 1;
    status.nodes_up = is_up_ ? 1 : 0;
    if (is_closed_) {
        status.state = State::kClosed;
    } else if (is_up_) {
        status.state = breaker_.allows(now) ? State::kUp : State::kOpen;
    } else if (last_verdict_ == Verdict::kConfiguration) {
        status.state = State::kMisconfigured;
    } else if (status.breaker == Breaker::State::kOpen) {
        status.state = State::kOpen;
    } else {
        status.state =
            http_.is_under_way() || last_verdict_ == Verdict::kOk ? State::kConnecting : State::kWaiting;
    }
    return status;
}

void RestClient::close(TimePoint /*now*/) noexcept {
    if (std::exchange(is_closed_, true)) return;
    http_.cancel();
    is_up_ = false;
    Reply reply;
    reply.kind = Reply::Kind::kError;
    reply.verdict = Verdict::kLost;
    answer_all(reply);
}

}  // namespace

bool has_rest() noexcept { return true; }

std::unique_ptr<Client> make_rest(Options options) {
    if (options.token.empty()) return make_unavailable("an https:// URL needs a token");
    if (!is_token(options.token)) return make_unavailable("the token contains a character that no token has");
    return std::make_unique<RestClient>(std::move(options));
}

}  // namespace cache_ext::redis

#else

namespace cache_ext::redis {

bool has_rest() noexcept { return false; }

std::unique_ptr<Client> make_rest(Options /*options*/) {
    return make_unavailable("https:// needs libcurl, which this was built without");
}

}  // namespace cache_ext::redis

#endif
