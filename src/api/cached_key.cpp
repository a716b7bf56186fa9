#include "api/cached_key.hpp"

#include "api/context.hpp"
#include "core/patterns.hpp"
#include "pg/environment.hpp"
#include "pg/sha256.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/datum.h"
#include "miscadmin.h"
}

namespace cache_ext::api {

namespace {

/// Arguments with more bytes than this are in the key as a hash.
constexpr std::size_t kMaxPlainBytes = 256;

char* append_hex(char* to, const void* from, std::size_t count) noexcept {
    static constexpr char kDigits[] = "0123456789abcdef";
    const auto* bytes = static_cast<const std::uint8_t*>(from);
    for (std::size_t i = 0; i < count; ++i) {
        *to++ = kDigits[bytes[i] >> 4];
        *to++ = kDigits[bytes[i] & 15];
    }
    return to;
}

/// The arguments one behind the other, so that no two lists look alike. Grows from a piece of the stack into palloc'd memory.
class Bytes {
public:
    void append(const void* from, std::size_t count) {
        if (size_ + count > capacity_) grow(count);
        std::memcpy(begin_ + size_, from, count);
        size_ += count;
    }
    template <class T>
    void append(const T& value) {
        append(&value, sizeof value);
    }
    const char* begin() const noexcept { return begin_; }
    std::size_t size() const noexcept { return size_; }

private:
    void grow(std::size_t count) {
        const std::size_t capacity = std::max(2 * capacity_, size_ + count);
        auto* larger = static_cast<char*>(palloc(capacity));
        std::memcpy(larger, begin_, size_);
        begin_ = larger;
        capacity_ = capacity;
    }

    char first_[kMaxPlainBytes + 64];
    char* begin_ = first_;
    std::size_t size_ = 0;
    std::size_t capacity_ = sizeof first_;
};

void append_argument(Bytes& bytes, const ArgumentType& type, const NullableDatum& argument) {
    bytes.append(static_cast<char>(argument.isnull));
    if (argument.isnull) return;
    if (type.by_value) {
        bytes.append(&argument.value,
                     static_cast<std::size_t>(type.bytes));  // little-endian: the low bytes first
    } else if (type.bytes == -1) {
        varlena* value = PG_DETOAST_DATUM_PACKED(argument.value);
        const auto size = static_cast<std::uint32_t>(VARSIZE_ANY_EXHDR(value));
        bytes.append(size);
        bytes.append(VARDATA_ANY(value), size);
        if (PointerGetDatum(value) != argument.value) pfree(value);
    } else {
        const auto size = static_cast<std::uint32_t>(datumGetSize(argument.value, false, type.bytes));
        bytes.append(size);
        bytes.append(DatumGetPointer(argument.value), size);
    }
}

template <class T>
void append_fixed(StringInfoData& text, const T& value) {
    appendBinaryStringInfo(&text, reinterpret_cast<const char*>(&value), sizeof value);
}

void append_version(StringInfoData& text, const RowVersion& version) {
    append_fixed(text, version.oid);
    append_fixed(text, version.xmin);
    append_fixed(text, version.place);
    append_fixed(text, version.content);
}

/// The function, in its present state, as it is called now: 32 digits.
const char* digest_of(Definition& d, const std::uint64_t* person) {
    const std::uint64_t environment = pg::environment_number();
    const Oid role = person != nullptr ? GetUserId() : InvalidOid;
    // The session's user is told apart too: functions see it, and after SET ROLE the scope does not say who it was.
    const Oid session = person != nullptr ? GetSessionUserId() : InvalidOid;
    const std::uint64_t who[2] = {person != nullptr ? person[0] : 0, person != nullptr ? person[1] : 0};
    if (d.call_environment == environment && d.call_role == role && d.call_session == session &&
        d.call_person[0] == who[0] && d.call_person[1] == who[1]) [[likely]]
        return d.call_digest;
    StringInfoData text;
    initStringInfo(&text);
    append_version(text, d.function);
    append_version(text, d.underneath);
    append_fixed(text, role);
    append_fixed(text, session);
    append_fixed(text, who);
    pg::append_environment(&text, d.environment);
    const pg::Digest128 digest = pg::sha256_128(text.data, static_cast<std::size_t>(text.len));
    pfree(text.data);
    *append_hex(d.call_digest, digest.bytes.data(), digest.bytes.size()) = '\0';
    d.call_environment = environment;
    d.call_role = role;
    d.call_session = session;
    std::copy_n(who, 2, d.call_person);
    return d.call_digest;
}

}  // namespace

std::string_view make_key(Definition& definition, const KeyFrame& frame, FunctionCallInfo fcinfo,
                          const std::uint64_t* person, char* buffer) {
    Bytes bytes;
    bytes.append(frame.collation);
    bytes.append(frame.shape);
    for (int i = 0; i < frame.count; ++i) {
        if (frame.is_polymorphic) bytes.append(frame.arguments[i].type);
        append_argument(bytes, frame.arguments[i], fcinfo->args[i]);
    }

    const std::size_t name_bytes = std::strlen(definition.key_name);
    char* at = buffer;
    at = std::copy(kFunctionKeys.begin(), kFunctionKeys.end(), at);
    at = std::copy_n(definition.key_name, name_bytes, at);
    *at++ = ':';
    at = std::copy_n(digest_of(definition, person), sizeof definition.call_digest - 1, at);
    *at++ = ':';
    if (bytes.size() <= kMaxPlainBytes) {
        at = append_hex(at, bytes.begin(), bytes.size());
    } else {
        const pg::Digest128 digest = pg::sha256_128(bytes.begin(), bytes.size());
        *at++ = '#';
        at = append_hex(at, digest.bytes.data(), digest.bytes.size());
    }
    return {buffer, static_cast<std::size_t>(at - buffer)};
}

}  // namespace cache_ext::api
