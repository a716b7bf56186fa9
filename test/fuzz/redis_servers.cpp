// Reads any bytes as replies, and takes these for what servers say of each other and of what was taken: a cluster's slots and redirections, a sentinel's master, tokens. What is believed is sound.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "redis/cluster_map.hpp"
#include "redis/redact.hpp"
#include "redis/reply_reader.hpp"
#include "redis/sentinel.hpp"
#include "redis/taking.hpp"

namespace {

using namespace cache_ext::redis;

void require(bool condition) {
    if (!condition) std::abort();
}

/// Fit to be connected to and shown.
void require_sound(const Endpoint& endpoint) {
    require(!endpoint.host.empty() && endpoint.port != 0);
    require(endpoint.host.find_first_of(std::string_view(" /@\r\n\0", 6)) == std::string::npos);
    require(parse_endpoint(to_text(endpoint), 0) == endpoint);
}

void look(const Reply& reply, const Sentinels& sentinels) {
    const Endpoint asked{"asked", 7};
    if (const auto ranges = parse_slots(reply, asked)) {
        for (const SlotRange& range : *ranges) {
            require(range.first <= range.last && range.last < kSlots);
            require_sound(range.primary);
        }
    }
    if (const auto redirect = parse_redirect(reply.text, asked)) {
        require(redirect->slot < kSlots);
        require_sound(redirect->to);
    }
    Verdict verdict = Verdict::kOk;
    std::string error;
    if (const auto master = sentinels.read(reply, verdict, error))
        require_sound(*master);
    else
        require(verdict != Verdict::kOk && !error.empty());
    if (const auto token = parse_token(reply.text)) {
        const auto again = parse_token(token->text());
        require(again && again->text() == token->text() && again->transaction == token->transaction);
    }
    for (const Reply& element : reply.elements)
        look(element, sentinels);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Options options = [] {
        Options made;
        made.url = parse_url("redis-sentinel://sentinel/?master=m").url.value();
        return made;
    }();
    const Sentinels sentinels(options);
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    ReplyReader reader;
    require(reader.feed(bytes));
    for (Reply reply; reader.next(reply) == ReplyReader::Item::kReply; reply = {})
        look(reply, sentinels);
    // The bytes themselves, which are no reply most of the time.
    Reply text;
    text.text = bytes;
    look(text, sentinels);
    // A text that says a secret, or the most of it, does not any more.
    const std::size_t half = size / 2;
    const std::string_view secret = bytes.substr(0, half);
    if (secret.size() >= 8 && secret.find_first_of("*\r\n") == std::string_view::npos) {
        const std::string said = redacted(std::string(bytes), secret);
        require(said.find(secret) == std::string::npos);
        require(redacted("says " + std::string(secret.substr(0, secret.size() - 1)), secret)
                        .find(secret.substr(0, 8)) == std::string::npos ||
                secret.size() == 8);
    }
    return 0;
}
