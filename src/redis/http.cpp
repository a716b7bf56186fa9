#include "redis/http.hpp"

#ifdef CACHE_EXT_REDIS_REST

#include <curl/curl.h>

#include <algorithm>
#include <csignal>
#include <new>
#include <utility>
#include <vector>

#include "redis/reply_reader.hpp"
#include "redis/sigpipe.hpp"

namespace cache_ext::redis {

namespace {

/// While it lives, this thread gets no signal, and neither do the threads that begin meanwhile, ever: libcurl looks up names in one, and the handlers of the process
/// are not made for another. A SIGPIPE of a socket that was closed is taken away.
class NoSignals {
public:
    NoSignals() noexcept {
        sigset_t all;
        sigfillset(&all);
        is_blocking_ = pthread_sigmask(SIG_BLOCK, &all, &before_) == 0;
        sigset_t pending;
        had_pipe_ = sigpending(&pending) != 0 || sigismember(&pending, SIGPIPE) == 1;
    }
    NoSignals(const NoSignals&) = delete;
    NoSignals& operator=(const NoSignals&) = delete;
    ~NoSignals() {
        if (!is_blocking_) return;
        if (!had_pipe_) discard_sigpipe();
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t before_{};
    bool is_blocking_ = false;
    bool had_pipe_ = false;
};

}  // namespace

struct Http::State {
    CURLM* multi = nullptr;
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    bool is_under_way = false;
    bool is_too_large = false;
    bool is_out_of_memory = false;
    std::string request;
    std::string body;
    std::vector<Interest> interests;
    std::uint64_t generation = 0;
    std::optional<milliseconds> wait;  ///< that libcurl wants, from its last call on
    TimePoint timer = kNever;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        const NoSignals quiet;
        if (multi != nullptr && easy != nullptr) curl_multi_remove_handle(multi, easy);
        if (easy != nullptr) curl_easy_cleanup(easy);
        if (multi != nullptr) curl_multi_cleanup(multi);
        curl_slist_free_all(headers);
    }

    static int on_socket(CURL* /*easy*/, curl_socket_t socket, int what, void* self,
                         void* /*unused*/) noexcept {
        auto& state = *static_cast<State*>(self);
        std::erase_if(state.interests, [&](const Interest& interest) { return interest.fd == socket; });
        ++state.generation;
        if (what == CURL_POLL_REMOVE || what == CURL_POLL_NONE) return 0;
        try {
            state.interests.push_back({socket, (what & CURL_POLL_IN) != 0, (what & CURL_POLL_OUT) != 0});
        } catch (...) {
            state.is_out_of_memory = true;
        }
        return 0;
    }

    static int on_timer(CURLM* /*multi*/, long ms, void* self) noexcept {
        auto& state = *static_cast<State*>(self);
        state.wait = milliseconds(ms);
        return 0;
    }

    static std::size_t on_body(char* bytes, std::size_t /*one*/, std::size_t size, void* self) noexcept {
        auto& state = *static_cast<State*>(self);
        state.is_too_large = state.body.size() + size > kLargestReply;
        if (state.is_too_large) return 0;
        try {
            state.body.append(bytes, size);
        } catch (...) {
            state.is_out_of_memory = true;
            return 0;
        }
        return size;
    }

    void act(curl_socket_t socket, int events) noexcept {
        int running = 0;
        curl_multi_socket_action(multi, socket, events, &running);
    }
};

Http::Http(const HttpOptions& options) : state_(std::make_unique<State>()) {
    static const bool is_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    State& s = *state_;
    const NoSignals quiet;
    s.multi = is_ready ? curl_multi_init() : nullptr;
    s.easy = is_ready ? curl_easy_init() : nullptr;
    if (s.multi == nullptr || s.easy == nullptr) throw std::bad_alloc();
    curl_multi_setopt(s.multi, CURLMOPT_SOCKETFUNCTION, State::on_socket);
    curl_multi_setopt(s.multi, CURLMOPT_SOCKETDATA, &s);
    curl_multi_setopt(s.multi, CURLMOPT_TIMERFUNCTION, State::on_timer);
    curl_multi_setopt(s.multi, CURLMOPT_TIMERDATA, &s);

    const auto add = [&](const std::string& header) {
        curl_slist* longer = curl_slist_append(s.headers, header.c_str());
        if (longer == nullptr) throw std::bad_alloc();
        s.headers = longer;
    };
    add("Content-Type: application/json");
    add("Authorization: Bearer " + options.token);
    add("Expect:");  // no round trip of its own for a large body

    curl_easy_setopt(s.easy, CURLOPT_URL, options.url.c_str());
    curl_easy_setopt(s.easy, CURLOPT_HTTPHEADER, s.headers);
    curl_easy_setopt(s.easy, CURLOPT_WRITEFUNCTION, State::on_body);
    curl_easy_setopt(s.easy, CURLOPT_WRITEDATA, &s);
    curl_easy_setopt(s.easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s.easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
    curl_easy_setopt(s.easy, CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout.count()));
    curl_easy_setopt(s.easy, CURLOPT_TCP_KEEPALIVE, 1L);
    // The token goes to this host and no other, and over nothing but what the URL says.
    curl_easy_setopt(s.easy, CURLOPT_FOLLOWLOCATION, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(s.easy, CURLOPT_PROTOCOLS_STR, options.is_loopback ? "http" : "https");
#else
    curl_easy_setopt(s.easy, CURLOPT_PROTOCOLS,
                     static_cast<long>(options.is_loopback ? CURLPROTO_HTTP : CURLPROTO_HTTPS));
#endif
    if (options.is_loopback) curl_easy_setopt(s.easy, CURLOPT_NOPROXY, "*");
}

Http::~Http() = default;

bool Http::post(std::string body) noexcept {
    State& s = *state_;
    const NoSignals quiet;
    s.request = std::move(body);
    s.body.clear();
    s.is_too_large = s.is_out_of_memory = false;
    curl_easy_setopt(s.easy, CURLOPT_POSTFIELDS, s.request.data());
    curl_easy_setopt(s.easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(s.request.size()));
    s.is_under_way = curl_multi_add_handle(s.multi, s.easy) == CURLM_OK;
    return s.is_under_way;
}

std::optional<HttpResponse> Http::service(std::span<const Ready> ready, TimePoint now) noexcept {
    State& s = *state_;
    const NoSignals quiet;
    const auto wind = [&] {
        if (!s.wait) return;
        s.timer = s.wait->count() < 0 ? kNever : now + *s.wait;
        s.wait.reset();
    };
    wind();
    for (const Ready& one : ready) {
        const auto is_it = [&](const Interest& interest) { return interest.fd == one.fd; };
        if (std::none_of(s.interests.begin(), s.interests.end(), is_it)) continue;
        s.act(one.fd, (one.readable ? CURL_CSELECT_IN : 0) | (one.writable ? CURL_CSELECT_OUT : 0));
    }
    if (now >= s.timer) {
        s.timer = kNever;
        s.act(CURL_SOCKET_TIMEOUT, 0);
    }
    wind();
    if (s.is_under_way && s.is_out_of_memory) {
        cancel();
        HttpResponse response;
        response.error = "out of memory";
        return response;
    }
    int left = 0;
    const CURLMsg* message = curl_multi_info_read(s.multi, &left);
    if (message == nullptr || message->msg != CURLMSG_DONE) return std::nullopt;
    const CURLcode result = message->data.result;
    HttpResponse response;
    long code = 0;
    if (result == CURLE_OK) curl_easy_getinfo(s.easy, CURLINFO_RESPONSE_CODE, &code);
    cancel();
    response.code = static_cast<int>(code);
    try {
        if (result == CURLE_OK) {
            response.body = std::move(s.body);
        } else {
            response.error = s.is_too_large ? "a reply is too large" : curl_easy_strerror(result);
        }
    } catch (...) {
        response.error = "out of memory";
    }
    return response;
}

void Http::cancel() noexcept {
    if (!std::exchange(state_->is_under_way, false)) return;
    const NoSignals quiet;
    // An idle connection stays for the next one.
    curl_multi_remove_handle(state_->multi, state_->easy);
}

bool Http::is_under_way() const noexcept { return state_->is_under_way; }
std::span<const Interest> Http::interests() const noexcept { return state_->interests; }
std::uint64_t Http::generation() const noexcept { return state_->generation; }
TimePoint Http::next_deadline() const noexcept { return state_->wait ? TimePoint::min() : state_->timer; }

}  // namespace cache_ext::redis

#endif
