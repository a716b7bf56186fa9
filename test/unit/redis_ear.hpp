#pragma once

// A subscriber that notes what it is told, and the loop that drives it.

#include "redis/subscriber.hpp"

#include "redis_fixture.hpp"

namespace cache_ext::redis {

class Ear {
public:
    explicit Ear(Options options, std::vector<std::string> channels = {"news"},
                 const std::vector<Driven*>& beside = {})
        : subscriber_(Subscriber::make(
              std::move(options), std::move(channels),
              {[this] { events_.emplace_back("subscribed"); }, [this] { events_.emplace_back("lost"); },
               [this](std::string_view channel, std::string_view payload) {
                   events_.push_back(std::string(channel) + ": " + std::string(payload));
               }})),
          loop_(with(beside)) {}

    Subscriber& subscriber() { return *subscriber_; }
    Loop& loop() { return loop_; }
    const std::vector<std::string>& events() const { return events_; }
    Status status() const { return subscriber_->status(now()); }
    bool subscribes() {
        return loop_.until([&] { return subscriber_->is_subscribed(); });
    }
    bool hears(std::size_t count) {
        return loop_.until([&] { return events_.size() >= count; });
    }

private:
    std::vector<Driven*> with(std::vector<Driven*> all) const {
        all.push_back(subscriber_.get());
        return all;
    }

    std::vector<std::string> events_;
    std::unique_ptr<Subscriber> subscriber_;
    Loop loop_;
};

}  // namespace cache_ext::redis
