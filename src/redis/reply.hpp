#pragma once

// What came back for a command, and what it means for whoever sent that.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cache_ext::redis {

enum class Verdict : std::uint8_t {
    kOk,
    kRetryLater,  ///< the server cannot do it now: OOM, LOADING, BUSY, CLUSTERDOWN, MISCONF, … Send it again, after a while
    kReconnect,  ///< this connection is no use: READONLY (a replica), too many clients. The client connects anew; then send it again
    kRedirect,  ///< MOVED, ASK. The client follows; only seen where that is not a cluster's, or there were too many
    kPermanent,  ///< this command is wrong (WRONGTYPE, a syntax error, NOSCRIPT): sent again, it would fail again
    kConfiguration,  ///< NOAUTH, WRONGPASS, NOPERM, a database that is not there: nothing will work until somebody changes a setting
    kLost,  ///< no reply: the connection broke, or took too long. It may have been done or not. Send it again
};

/// What an error's text means: `WRONGTYPE Operation against …`.
[[nodiscard]] Verdict judge(std::string_view error) noexcept;

/// A name for logs and views: "retry later".
[[nodiscard]] const char* to_text(Verdict verdict) noexcept;

struct Reply {
    enum class Kind : std::uint8_t { kNil, kStatus, kString, kInteger, kArray, kError };

    Kind kind = Kind::kNil;
    Verdict verdict = Verdict::kOk;  ///< other than kOk exactly where kind is kError
    long long integer = 0;
    std::string text;             ///< kStatus, kString, kError
    std::vector<Reply> elements;  ///< kArray; an element may be a kError itself

    [[nodiscard]] bool ok() const noexcept { return verdict == Verdict::kOk; }
};

[[nodiscard]] Reply error_reply(Verdict verdict, std::string text);

}  // namespace cache_ext::redis
