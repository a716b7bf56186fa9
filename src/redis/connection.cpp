#include "redis/connection.hpp"

#include <hiredis/hiredis.h>

#include <unistd.h>

#include <new>
#include <utility>

#include "redis/features.hpp"
#include "redis/redact.hpp"
#include "redis/sigpipe.hpp"

namespace cache_ext::redis {

namespace {

/// What hiredis reads at a time, and how often that is done in one go.
constexpr std::size_t kReadSize = 16384;
constexpr int kReadsInOneGo = 64;

}  // namespace

std::string pack(std::span<const std::string_view> command) {
    std::size_t size = 16;
    for (const std::string_view argument : command)
        size += argument.size() + 16;
    std::string packed;
    packed.reserve(size);
    packed += '*';
    packed += std::to_string(command.size());
    packed += "\r\n";
    for (const std::string_view argument : command) {
        packed += '$';
        packed += std::to_string(argument.size());
        packed += "\r\n";
        packed += argument;
        packed += "\r\n";
    }
    return packed;
}

void Connection::Free::operator()(redisContext* context) const noexcept {
    const NoSigpipe quiet;  // TLS says goodbye
    redisFree(context);
}

Connection::Connection(const Target& target, ReplySink& sink, TimePoint now)
    : target_(target), sink_(sink), connect_by_(now + target.connect_timeout) {
    dialled(target_.scheme == Scheme::kUnix ? dial_.start(target_.path) : dial_.start(target_.endpoint));
}

Connection::~Connection() = default;

int Connection::fd() const noexcept { return context_ ? context_->fd : dial_.fd(); }

bool Connection::wants_read() const noexcept {
    return state_ == State::kUp || state_ == State::kGreeting || state_ == State::kTls;
}

bool Connection::wants_write() const noexcept {
    switch (state_) {
        case State::kDialling:
            return true;
        case State::kTls:
            return tls_wants_write_;
        case State::kGreeting:
        case State::kUp:
            return is_blocked_;
        case State::kDown:
            return false;
    }
    return false;
}

TimePoint Connection::due() const noexcept {
    if (state_ == State::kDown) return kNever;
    if (state_ != State::kUp) return connect_by_;
    return replies_due_ > 0 ? heard_at_ + target_.command_timeout : kNever;
}

TimePoint Connection::next_deadline() const noexcept {
    if (state_ == State::kDown) return kNever;
    const bool has_to_write = !is_blocked_ && buffered() > 0;
    return has_more_ || has_to_write ? TimePoint::min() : due();
}

std::size_t Connection::buffered() const noexcept { return context_ ? sdslen(context_->obuf) : 0; }

void Connection::fail(Verdict verdict, std::string error) noexcept {
    if (state_ == State::kDown) return;
    state_ = State::kDown;
    verdict_ = verdict;
    error_ = std::move(error);
    tls_.reset();
    context_.reset();
    reader_.reset();
    if (const int fd = dial_.take(); fd >= 0) ::close(fd);
    has_more_ = is_blocked_ = false;
}

void Connection::service(bool readable, bool writable, TimePoint now) noexcept {
    try {
        if (writable) is_blocked_ = false;
        if (state_ == State::kDialling && (readable || writable)) dialled(dial_.step());
        if (state_ == State::kTls) shake_hands();
        // First what the server has to say: it may have closed the connection, and told why.
        if (readable || has_more_) read(now);
        if (state_ == State::kGreeting || state_ == State::kUp) write();
        check_time(now);
    } catch (...) {
        fail(Verdict::kReconnect, "out of memory");
    }
}

void Connection::check_time(TimePoint now) {
    if (now < due()) return;
    // It is this process that may have been away: what has arrived meanwhile counts.
    read(now);
    if (now < due()) return;
    const char* what = state_ == State::kUp         ? "no reply came in time"
                       : state_ == State::kDialling ? "it could not be connected to in time"
                       : state_ == State::kTls      ? "the TLS handshake was not done in time"
                                                    : "the server did not answer in time";
    fail(Verdict::kReconnect, what);
}

void Connection::dialled(Dial::Step step) {
    if (step == Dial::Step::kFailed) return fail(Verdict::kReconnect, dial_.error());
    if (step == Dial::Step::kConnected) attach();
}

void Connection::attach() {
    context_.reset(redisConnectFd(dial_.fd()));
    if (!context_) throw std::bad_alloc();
    (void)dial_.take();
    if (context_->err != 0) return fail(Verdict::kReconnect, context_->errstr);
    // It takes a socket that it is given to be a waiting one.
    context_->flags &= ~REDIS_BLOCK;
    reader_ = std::make_unique<ReplyReader>(context_->reader);
    if (target_.scheme != Scheme::kTls) return greet();
    const NoSigpipe quiet;
    std::string error;
    tls_ = Tls::over(context_.get(), target_.endpoint.host, target_.ca_file, error);
    if (!tls_) return fail(has_tls() ? Verdict::kReconnect : Verdict::kConfiguration, std::move(error));
    state_ = State::kTls;
}

void Connection::shake_hands() {
    const NoSigpipe quiet;
    std::string error;
    const Tls::Step step = tls_->step(error);
    tls_wants_write_ = step == Tls::Step::kWantsWrite;
    if (step == Tls::Step::kFailed) return fail(Verdict::kReconnect, std::move(error));
    if (step == Tls::Step::kDone) greet();
}

void Connection::greet() {
    state_ = State::kGreeting;
    const auto say = [this](Greeting greeting, std::initializer_list<std::string_view> command) {
        const std::string packed = pack({command.begin(), command.size()});
        if (redisAppendFormattedCommand(context_.get(), packed.data(), packed.size()) != REDIS_OK)
            throw std::bad_alloc();
        greetings_.insert(greetings_.begin(), greeting);
    };
    if (!target_.password.empty()) {
        if (target_.user.empty()) {
            say(Greeting::kAuth, {"AUTH", target_.password});
        } else {
            say(Greeting::kAuth, {"AUTH", target_.user, target_.password});
        }
    }
    if (target_.database != 0) say(Greeting::kSelect, {"SELECT", std::to_string(target_.database)});
    if (!target_.client_name.empty()) say(Greeting::kName, {"CLIENT", "SETNAME", target_.client_name});
    // A server that is still loading, or wants a password, says so; something that is no Redis does not say PONG.
    say(Greeting::kPing, {"PING"});
    if (target_.has_to_be_master) say(Greeting::kRole, {"ROLE"});
}

void Connection::greeted(const Reply& reply, TimePoint now) {
    const Greeting greeting = greetings_.back();
    greetings_.pop_back();
    const bool is_essential = greeting == Greeting::kAuth || greeting == Greeting::kSelect;
    // Rights to set a name, to PING or to ask for the role are not needed; who lacks them has been let in.
    const bool is_let_in = reply.verdict == Verdict::kPermanent || reply.text.starts_with("NOPERM");
    if (!reply.ok() && (is_essential || !is_let_in)) {
        // Whatever a server says of a password or a database is about the settings.
        const Verdict verdict =
            is_essential && reply.verdict == Verdict::kPermanent ? Verdict::kConfiguration : reply.verdict;
        return fail(verdict, "the server says: " + redacted(reply.text, target_.password));
    }
    if (greeting == Greeting::kPing && reply.ok() && reply.text != "PONG")
        return fail(Verdict::kReconnect,
                    "what is there is no Redis server: it answers PING with something else");
    if (greeting == Greeting::kRole && reply.ok() &&
        (reply.elements.empty() || reply.elements.front().text != "master"))
        return fail(Verdict::kReconnect, "the server is not a master");
    if (!greetings_.empty()) return;
    state_ = State::kUp;
    heard_at_ = now;
}

bool Connection::append(std::string_view packed, TimePoint now) noexcept {
    if (state_ != State::kUp ||
        redisAppendFormattedCommand(context_.get(), packed.data(), packed.size()) != REDIS_OK)
        return false;
    if (replies_due_++ == 0) heard_at_ = now;
    return true;
}

bool Connection::append_subscribe(std::string_view packed, TimePoint now) noexcept {
    if (!append(packed, now)) return false;
    is_subscribed_ = true;
    return true;
}

void Connection::write() {
    const NoSigpipe quiet;
    while (!is_blocked_ && buffered() > 0) {
        const std::size_t before = buffered();
        int done = 0;
        if (redisBufferWrite(context_.get(), &done) != REDIS_OK)
            return fail(Verdict::kReconnect, std::string("the connection was lost: ") + context_->errstr);
        // Not all of it: the rest waits until there is room again.
        is_blocked_ = buffered() == before || buffered() > 0;
    }
}

void Connection::read(TimePoint now) {
    has_more_ = false;
    for (int i = 0; state_ == State::kGreeting || state_ == State::kUp; ++i) {
        // What has arrived is no reason to give up, and what comes after it has no time yet.
        if (i == kReadsInOneGo) {
            has_more_ = true;
            return;
        }
        const std::size_t before = context_->reader->len;
        const bool is_good = redisBufferRead(context_.get()) == REDIS_OK;
        // Less than it asks for at a time: a plain socket has no more. What TLS has taken off the socket already has to be taken from there.
        const std::size_t arrived = context_->reader->len - before;
        const bool is_drained = is_good && (arrived == 0 || (!tls_ && arrived < kReadSize));
        Reply reply;
        ReplyReader::Item item = ReplyReader::Item::kMore;
        while ((state_ == State::kGreeting || state_ == State::kUp) &&
               (item = reader_->next(reply)) == ReplyReader::Item::kReply)
            handle(reply, now);
        if (state_ == State::kDown) return;
        if (item == ReplyReader::Item::kBroken)
            return fail(Verdict::kReconnect,
                        std::string("the server's reply cannot be read: ") + reader_->error());
        if (!is_good) {
            const bool is_over = context_->err == REDIS_ERR_EOF;
            return fail(Verdict::kReconnect,
                        is_over ? "the server closed the connection"
                                : std::string("the connection was lost: ") + context_->errstr);
        }
        if (is_drained) return;
    }
}

void Connection::handle(Reply& reply, TimePoint now) {
    if (state_ == State::kGreeting) return greeted(reply, now);
    heard_at_ = now;
    if (is_subscribed_) {
        replies_due_ = 0;
    } else if (replies_due_ == 0) {
        return fail(Verdict::kReconnect, "the server sent a reply that nobody asked for");
    } else {
        --replies_due_;
    }
    sink_.on_reply(std::move(reply));
}

}  // namespace cache_ext::redis
