#pragma once

// Values in their stored form: the bytes of a jsonb, compressed where that is worth it.

#include <cstddef>
#include <span>

#include "core/store.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

struct StoredValue {
    std::span<const std::byte> bytes;  ///< in the argument's or in palloc'd memory
    core::Encoding encoding = core::Encoding::kPlain;
};

/// The stored form of a value. `value` is a detoasted varlena.
StoredValue encode(const varlena* value);

/// The value of a stored form, palloc'd.
Datum decode(std::span<const std::byte> bytes, core::Encoding encoding);

/// Copies what a lookup found out of the region and decodes it. False: it has gone meanwhile.
bool fetch(const core::Lookup& found, Datum& value);

}  // namespace cache_ext::api
