#include "api/cached_key.hpp"

#include "api/context.hpp"
#include "core/patterns.hpp"
#include "pg/environment.hpp"
#include "pg/sha256.hpp"
#include "pg/temporary.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
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

/// Takes apart what Bytes has put together. What does not fit makes it false for good.
class ByteReader {
public:
    ByteReader(const char* from, std::size_t count) noexcept : at_(from), end_(from + count) {}
    const char* take(std::size_t count) noexcept {
        if (!good_ || count > static_cast<std::size_t>(end_ - at_)) {
            good_ = false;
            return nullptr;
        }
        return std::exchange(at_, at_ + count);
    }
    template <class T>
    T take() noexcept {
        T value{};
        if (const char* from = take(sizeof value); from != nullptr) std::memcpy(&value, from, sizeof value);
        return value;
    }
    void fail() noexcept { good_ = false; }
    bool good() const noexcept { return good_; }
    bool at_end() const noexcept { return good_ && at_ == end_; }

private:
    const char* at_;
    const char* end_;
    bool good_ = true;
};

/// The inverse of append_argument(). The value in palloc'd memory.
NullableDatum take_argument(ByteReader& bytes, const ArgumentType& type) {
    if (bytes.take<char>() != 0) return {Datum{0}, true};
    if (type.by_value) {
        // As the server makes a Datum of so many bytes: with their sign.
        switch (type.bytes) {
            case 1:
                return {CharGetDatum(bytes.take<char>()), false};
            case 2:
                return {Int16GetDatum(bytes.take<std::int16_t>()), false};
            case 4:
                return {Int32GetDatum(bytes.take<std::int32_t>()), false};
            default:
                return {bytes.take<Datum>(), false};
        }
    }
    const auto size = bytes.take<std::uint32_t>();
    if (type.bytes != -1 && std::cmp_not_equal(size, type.bytes)) bytes.fail();
    const char* from = bytes.take(size);
    if (!bytes.good()) return {Datum{0}, true};
    const std::size_t head = type.bytes == -1 ? VARHDRSZ : 0;
    auto* value = static_cast<char*>(palloc(head + size + 1));
    std::memcpy(value + head, from, size);
    if (type.bytes == -1) SET_VARSIZE(value, head + size);
    return {PointerGetDatum(value), false};
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
    // With temporary tables a name may stand for another table than elsewhere. A shared function looks for them last.
    const std::uint64_t temporary = person != nullptr ? pg::temporary_number() : 0;
    const std::uint64_t who[2] = {person != nullptr ? person[0] : 0, person != nullptr ? person[1] : 0};
    if (d.call_environment == environment && d.call_role == role && d.call_session == session &&
        d.call_temporary == temporary && d.call_person[0] == who[0] && d.call_person[1] == who[1]) [[likely]]
        return d.call_digest;
    StringInfoData text;
    initStringInfo(&text);
    append_version(text, d.function);
    append_version(text, d.underneath);
    append_fixed(text, role);
    append_fixed(text, session);
    append_fixed(text, who);
    if (temporary != 0) {
        append_fixed(text, temporary);
        append_fixed(text, MyProcPid);
        append_fixed(text, MyStartTimestamp);
    }
    pg::append_environment(&text, d.environment);
    const pg::Digest128 digest = pg::sha256_128(text.data, static_cast<std::size_t>(text.len));
    pfree(text.data);
    *append_hex(d.call_digest, digest.bytes.data(), digest.bytes.size()) = '\0';
    d.call_environment = environment;
    d.call_role = role;
    d.call_session = session;
    d.call_temporary = temporary;
    std::copy_n(who, 2, d.call_person);
    return d.call_digest;
}

}  // namespace

bool can_be_read_back(Oid type) {
    check_stack_depth();
    const Oid base = getBaseType(type);
    if (const Oid element = get_element_type(base); OidIsValid(element)) return can_be_read_back(element);
    switch (get_typtype(base)) {
        case TYPTYPE_BASE:
            return get_typlen(base) >= -1;
        case TYPTYPE_ENUM:
            return true;
        case TYPTYPE_RANGE:
            return can_be_read_back(get_range_subtype(base));
        case TYPTYPE_MULTIRANGE:
            return can_be_read_back(get_multirange_range(base));
        default:
            return false;
    }
}

std::string_view key_prefix(Definition& definition, const std::uint64_t* person, char* buffer) {
    char* at = buffer;
    at = std::copy(kFunctionKeys.begin(), kFunctionKeys.end(), at);
    at = std::copy_n(definition.key_name, std::strlen(definition.key_name), at);
    *at++ = ':';
    at = std::copy_n(digest_of(definition, person), sizeof definition.call_digest - 1, at);
    *at++ = ':';
    return {buffer, static_cast<std::size_t>(at - buffer)};
}

bool read_arguments(std::string_view text, const ArgumentType* arguments, int count, Oid& collation,
                    NullableDatum* values) {
    char plain[kMaxPlainBytes];
    if (text.size() % 2 != 0 || text.size() / 2 > sizeof plain) return false;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const auto digit = [](char c) {
            return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        };
        const int high = digit(text[i]);
        const int low = digit(text[i + 1]);
        if (high < 0 || low < 0) return false;
        plain[i / 2] = static_cast<char>(high << 4 | low);
    }
    ByteReader bytes{plain, text.size() / 2};
    collation = bytes.take<Oid>();
    (void)bytes.take<decltype(KeyFrame::shape)>();
    for (int i = 0; i < count; ++i)
        values[i] = take_argument(bytes, arguments[i]);
    return bytes.at_end();
}

std::string_view make_key(Definition& definition, const KeyFrame& frame, FunctionCallInfo fcinfo,
                          const std::uint64_t* person, char* buffer) {
    Bytes bytes;
    bytes.append(frame.collation);
    bytes.append(frame.shape);
    for (int i = 0; i < frame.count; ++i) {
        if (frame.is_polymorphic) bytes.append(frame.arguments[i].type);
        append_argument(bytes, frame.arguments[i], fcinfo->args[i]);
    }

    char* at = buffer + key_prefix(definition, person, buffer).size();
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
