#include "redis/reply.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace cache_ext::redis {

namespace {

struct Rule {
    std::string_view begin;
    Verdict verdict;
};

/// By the error's first words; the first that fits counts. A word that is not here is the command's own fault.
constexpr std::array kRules = {
    Rule{"MOVED ", Verdict::kRedirect},
    Rule{"ASK ", Verdict::kRedirect},
    Rule{"OOM ", Verdict::kRetryLater},
    Rule{"LOADING ", Verdict::kRetryLater},
    Rule{"BUSY ", Verdict::kRetryLater},
    Rule{"TRYAGAIN ", Verdict::kRetryLater},
    Rule{"CLUSTERDOWN ", Verdict::kRetryLater},
    Rule{"MASTERDOWN ", Verdict::kRetryLater},
    Rule{"NOREPLICAS ", Verdict::kRetryLater},
    Rule{"MISCONF ", Verdict::kRetryLater},
    Rule{"NOAUTH ", Verdict::kConfiguration},
    Rule{"WRONGPASS ", Verdict::kConfiguration},
    Rule{"NOPERM ", Verdict::kConfiguration},
    Rule{"DENIED ", Verdict::kConfiguration},
    Rule{"READONLY ", Verdict::kReconnect},
    Rule{"ERR Protocol error", Verdict::kReconnect},
    Rule{"ERR max number of clients", Verdict::kReconnect},
    // Upstash, where a plan's limit was reached.
    Rule{"ERR max daily request limit", Verdict::kRetryLater},
    Rule{"ERR max requests limit", Verdict::kRetryLater},
    // Older servers have no word of their own for these.
    Rule{"ERR invalid password", Verdict::kConfiguration},
    Rule{"ERR Client sent AUTH", Verdict::kConfiguration},
    Rule{"ERR AUTH ", Verdict::kConfiguration},
    Rule{"ERR DB index", Verdict::kConfiguration},
    Rule{"ERR invalid DB index", Verdict::kConfiguration},
    Rule{"ERR SELECT is not allowed", Verdict::kConfiguration},
    Rule{"ERR This instance has cluster support disabled", Verdict::kConfiguration},
    Rule{"ERR operation not permitted", Verdict::kConfiguration},
};

}  // namespace

Verdict judge(std::string_view error) noexcept {
    // Up to Redis 6 an error within a script follows that of the script: "ERR Error running script (…): @user_script:1: -OOM …".
    constexpr std::string_view kScript = "ERR Error running script";
    if (error.starts_with(kScript)) {
        const std::size_t inner = error.find(": -");
        if (inner == std::string_view::npos) return Verdict::kPermanent;
        error.remove_prefix(inner + 3);
    }
    const auto fits = [&](const Rule& rule) {
        if (error.starts_with(rule.begin)) return true;
        // The word alone.
        return rule.begin.ends_with(' ') && error == rule.begin.substr(0, rule.begin.size() - 1);
    };
    const auto* rule = std::find_if(kRules.begin(), kRules.end(), fits);
    return rule == kRules.end() ? Verdict::kPermanent : rule->verdict;
}

const char* to_text(Verdict verdict) noexcept {
    switch (verdict) {
        case Verdict::kOk:
            return "ok";
        case Verdict::kRetryLater:
            return "retry later";
        case Verdict::kReconnect:
            return "reconnect";
        case Verdict::kRedirect:
            return "redirect";
        case Verdict::kPermanent:
            return "permanent";
        case Verdict::kConfiguration:
            return "configuration";
        case Verdict::kLost:
            return "lost";
    }
    return "";
}

Reply error_reply(Verdict verdict, std::string text) {
    Reply reply;
    reply.kind = Reply::Kind::kError;
    reply.verdict = verdict;
    reply.text = std::move(text);
    return reply;
}

}  // namespace cache_ext::redis
