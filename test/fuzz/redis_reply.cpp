// Reads any bytes as replies of a Redis server: whole, and in pieces, with the same outcome.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "redis/reply_reader.hpp"

namespace {

using namespace cache_ext::redis;

void require(bool condition) {
    if (!condition) std::abort();
}

bool same(const Reply& a, const Reply& b) {
    if (a.kind != b.kind || a.verdict != b.verdict || a.integer != b.integer || a.text != b.text ||
        a.elements.size() != b.elements.size())
        return false;
    for (std::size_t i = 0; i < a.elements.size(); ++i)
        if (!same(a.elements[i], b.elements[i])) return false;
    return true;
}

std::vector<Reply> read(std::string_view bytes, std::size_t piece) {
    ReplyReader reader;
    std::vector<Reply> replies;
    Reply reply;
    while (!bytes.empty()) {
        const std::string_view next = bytes.substr(0, piece);
        bytes.remove_prefix(next.size());
        require(reader.feed(next));
        ReplyReader::Item item;
        while ((item = reader.next(reply)) == ReplyReader::Item::kReply) {
            require((reply.kind == Reply::Kind::kError) == !reply.ok());
            replies.push_back(std::move(reply));
        }
        if (item == ReplyReader::Item::kBroken) {
            require(reader.error()[0] != '\0');
            require(reader.next(reply) == ReplyReader::Item::kBroken);
            break;
        }
    }
    return replies;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::vector<Reply> whole = read(bytes, SIZE_MAX);
    const std::vector<Reply> pieces = read(bytes, 1 + data[0] % 16);
    require(whole.size() == pieces.size());
    for (std::size_t i = 0; i < whole.size(); ++i)
        require(same(whole[i], pieces[i]));
    return 0;
}
