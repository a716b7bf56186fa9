// Compares the glob matcher with the recursive definition on short inputs, and runs it alone on long ones.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "../unit/glob_naive.hpp"
#include "core/glob.hpp"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace cache_ext::core;
    if (size == 0) return 0;
    // The first byte says where the pattern ends and the text begins.
    const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::size_t split = data[0] % (rest.size() + 1);
    const std::string_view pattern = rest.substr(0, split);
    const std::string_view text = rest.substr(split);

    const bool matches = glob_match(pattern, text);
    const GlobCheck check = glob_check(pattern);
    require(check.error == GlobError::kNone ? check.position == 0 : check.position < pattern.size());
    require(!matches || check.error == GlobError::kNone);
    const std::string_view prefix = glob_literal_prefix(pattern);
    require(pattern.starts_with(prefix));
    require(!matches || text.starts_with(prefix));
    if (glob_is_literal(pattern)) require(matches == (pattern == text));

    if (pattern.size() <= 12 && text.size() <= 12) {
        require(matches == naive::match(pattern, text));
        require((check.error == GlobError::kNone) == naive::parse(pattern).has_value());
    }
    return 0;
}
