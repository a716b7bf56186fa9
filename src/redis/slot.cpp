#include <array>
#include <cstdint>
#include <string_view>

#include "redis/client.hpp"
#include "redis/cluster_map.hpp"

namespace cache_ext::redis {

namespace {

/// CRC-16/XMODEM (polynomial 0x1021, begun with 0), as the Redis Cluster specification says.
constexpr std::array<std::uint16_t, 256> kTable = [] {
    std::array<std::uint16_t, 256> table{};
    for (unsigned byte = 0; byte < 256; ++byte) {
        unsigned crc = byte << 8;
        for (int bit = 0; bit < 8; ++bit)
            crc = (crc & 0x8000U) != 0 ? (crc << 1) ^ 0x1021U : crc << 1;
        table[byte] = static_cast<std::uint16_t>(crc);
    }
    return table;
}();

std::uint16_t crc16(std::string_view bytes) noexcept {
    unsigned crc = 0;
    for (const char c : bytes)
        crc = ((crc << 8) & 0xffffU) ^ kTable[((crc >> 8) ^ static_cast<unsigned char>(c)) & 0xffU];
    return static_cast<std::uint16_t>(crc);
}

}  // namespace

std::uint16_t slot_of(std::string_view key) noexcept {
    const std::size_t open = key.find('{');
    if (open != std::string_view::npos) {
        const std::size_t close = key.find('}', open + 1);
        // Empty braces are no tag.
        if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
    }
    return crc16(key) % kSlots;
}

}  // namespace cache_ext::redis
