#include "redis/single.hpp"

#include <utility>

#include "redis/answer.hpp"
#include "redis/interest_list.hpp"
#include "redis/link.hpp"

namespace cache_ext::redis {

namespace {

class SingleClient final : public Client, private LinkOwner {
public:
    explicit SingleClient(Options options)
        : options_(std::move(options)), link_(target_of(options_), options_, options_.seed, tally_, *this) {}

    std::span<const Interest> interests() const noexcept override { return interests_.get(); }
    std::uint64_t generation() const noexcept override { return interests_.generation(); }
    TimePoint next_deadline() const noexcept override { return link_.next_deadline(); }

    void service(std::span<const Ready> ready, TimePoint now) noexcept override {
        const Ready own = ready_for(link_, ready);
        link_.service(own.readable, own.writable, now);
        look();
    }

    bool can_take(TimePoint now) const noexcept override {
        return link_.takes(now) && tally_.in_flight < options_.most_in_flight &&
               link_.buffered() < options_.most_buffered;
    }

    bool submit(Command command, std::string_view /*routing_key*/, Handler handler,
                TimePoint now) noexcept override {
        if (command.empty() || !can_take(now)) return false;
        try {
            Request request;
            request.handler = std::move(handler);
            request.submitted_at = now;
            if (!link_.submit(std::move(request), pack(command), now)) return false;
        } catch (...) {
            return false;
        }
        ++tally_.commands;
        ++tally_.in_flight;
        return true;
    }

    bool submit_to(NodeId /*node*/, Command command, Handler handler, TimePoint now) noexcept override {
        return submit(command, {}, std::move(handler), now);
    }

    std::vector<NodeId> primaries() const override { return {0}; }
    std::uint64_t topology() const noexcept override { return 0; }

    Status status(TimePoint now) const override {
        Status status;
        tally_.report(status);
        status.state = link_.state(now);
        status.breaker = link_.breaker(now);
        status.up_since = link_.up_since();
        status.buffered_bytes = link_.buffered();
        status.nodes = 1;
        status.nodes_up = link_.is_up() ? 1 : 0;
        return status;
    }

    void close(TimePoint now) noexcept override {
        link_.close(now);
        look();
    }

private:
    void on_answer(Link& /*link*/, Request&& request, Reply&& reply, TimePoint /*now*/) noexcept override {
        answer(tally_, request.handler, reply);
    }

    void look() noexcept {
        interests_.update([this](auto&& see) { see(link_); });
    }

    Options options_;
    Tally tally_;
    InterestList interests_;
    Link link_;
};

}  // namespace

std::unique_ptr<Client> make_single(Options options) {
    return std::make_unique<SingleClient>(std::move(options));
}

}  // namespace cache_ext::redis
