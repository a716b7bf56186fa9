// Parses any bytes as JSON; a text that was read is written and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "redis/json.hpp"

namespace {

using namespace cache_ext::redis;

void require(bool condition) {
    if (!condition) std::abort();
}

void look(const Reply& value) {
    if (value.kind == Reply::Kind::kString) {
        std::string json;
        require(append_json(json, value.text));
        const std::optional<Reply> again = parse_json(json);
        require(again && again->kind == Reply::Kind::kString && again->text == value.text);
    }
    for (const Reply& element : value.elements)
        look(element);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (const std::optional<Reply> value = parse_json(bytes)) {
        look(*value);
        (void)member(*value, "result");
    }
    std::string json;
    if (append_json(json, bytes)) {
        const std::optional<Reply> again = parse_json(json);
        require(again && again->text == bytes);
    } else {
        require(json.empty());
    }
    return 0;
}
