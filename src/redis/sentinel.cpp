#include "redis/sentinel.hpp"

#include <array>

#include "redis/redact.hpp"

namespace cache_ext::redis {

Sentinels::Sentinels(const Options& options)
    : options_(options),
      question_(
          pack(std::array<std::string_view, 3>{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", options.url.master})) {}

void Sentinels::begin() noexcept {
    // The one that was asked last is the one that knew, or the last of all.
    if (asked_ > 0) first_ = (first_ + asked_ - 1) % options_.url.endpoints.size();
    asked_ = 0;
    verdict_ = Verdict::kOk;
    error_.clear();
}

void Sentinels::misled() noexcept { ++asked_; }

Target Sentinels::next() {
    const Url& url = options_.url;
    Target target;
    target.scheme = url.scheme;
    target.endpoint = url.endpoints[(first_ + asked_) % url.endpoints.size()];
    target.ca_file = url.ca_file;
    target.user = url.sentinel_user;
    target.password = url.sentinel_password;
    target.client_name = options_.client_name;
    target.connect_timeout = options_.connect_timeout;
    target.command_timeout = options_.command_timeout;
    ++asked_;
    return target;
}

std::optional<Endpoint> Sentinels::read(const Reply& reply, Verdict& verdict, std::string& error) const {
    if (!reply.ok()) {
        // A server that is no sentinel does not know the command.
        const bool is_settings =
            reply.verdict == Verdict::kPermanent || reply.verdict == Verdict::kConfiguration;
        verdict = is_settings ? Verdict::kConfiguration : Verdict::kReconnect;
        error = "the sentinel says: " + redacted(reply.text, options_.url.sentinel_password);
        return std::nullopt;
    }
    if (reply.kind == Reply::Kind::kNil) {
        verdict = Verdict::kConfiguration;
        error = "the sentinel knows no master of that name";
        return std::nullopt;
    }
    verdict = Verdict::kReconnect;
    error = "the sentinel does not say where the master is";
    if (reply.kind != Reply::Kind::kArray || reply.elements.size() != 2) return std::nullopt;
    const std::string& host = reply.elements[0].text;
    const bool needs_brackets = host.find(':') != std::string::npos;
    return parse_endpoint((needs_brackets ? "[" + host + "]" : host) + ":" + reply.elements[1].text, 0);
}

void Sentinels::failed(Verdict verdict, const std::string& error) {
    // A wrong password or name at one of them, while another is down: it is the former that somebody should see to.
    if (verdict_ == Verdict::kConfiguration && verdict != Verdict::kConfiguration) return;
    const std::size_t count = options_.url.endpoints.size();
    error_ =
        "sentinel " + to_text(options_.url.endpoints[(first_ + asked_ + count - 1) % count]) + ": " + error;
    verdict_ = verdict;
}

}  // namespace cache_ext::redis
