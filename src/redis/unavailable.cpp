#include "redis/unavailable.hpp"

#include <utility>

namespace cache_ext::redis {

namespace {

class UnavailableClient final : public Client {
public:
    explicit UnavailableClient(std::string why) { status_.last_error = std::move(why); }

    std::span<const Interest> interests() const noexcept override { return {}; }
    std::uint64_t generation() const noexcept override { return 0; }
    TimePoint next_deadline() const noexcept override { return kNever; }
    void service(std::span<const Ready> /*ready*/, TimePoint now) noexcept override {
        if (status_.last_error_at == TimePoint{}) status_.last_error_at = now;
    }
    bool can_take(TimePoint /*now*/) const noexcept override { return false; }
    bool submit(Command /*command*/, std::string_view /*routing_key*/, Handler /*handler*/,
                TimePoint /*now*/) noexcept override {
        return false;
    }
    bool submit_to(NodeId /*node*/, Command /*command*/, Handler /*handler*/,
                   TimePoint /*now*/) noexcept override {
        return false;
    }
    std::vector<NodeId> primaries() const override { return {}; }
    std::uint64_t topology() const noexcept override { return 0; }
    Status status(TimePoint /*now*/) const override {
        Status status = status_;
        status.state = is_closed_ ? State::kClosed : State::kMisconfigured;
        return status;
    }
    void close(TimePoint /*now*/) noexcept override { is_closed_ = true; }

private:
    Status status_;
    bool is_closed_ = false;
};

}  // namespace

std::unique_ptr<Client> make_unavailable(std::string why) {
    return std::make_unique<UnavailableClient>(std::move(why));
}

}  // namespace cache_ext::redis
