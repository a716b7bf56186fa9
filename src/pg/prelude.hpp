#pragma once

// The server's headers, in the one order that works from C++.
//
// Contract: a translation unit includes its own, core and C++ library headers first and this one after
// them (a header of pg/ includes this one itself). Further headers of the server follow it, wrapped in
// extern "C" by whoever needs them. The C++ library headers that clash with the server's macros once those
// are defined (<locale> on a server built without NLS, <cstdio> against the printf family) are pulled in here
// so that a later inclusion of them is empty.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <locale>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

extern "C" {
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/palloc.h"

// From 16 on the accessors of variable-length values have a header of their own; before, postgres.h holds them.
#if __has_include("varatt.h")
#include "varatt.h"
#endif
}

// The server renames the printf family and strerror to its own; std::snprintf would then name a
// function that does not exist. Nothing of the server's that is used as a macro needs them.
#undef printf
#undef fprintf
#undef sprintf
#undef snprintf
#undef vprintf
#undef vfprintf
#undef vsprintf
#undef vsnprintf
#undef strerror
#undef strerror_r

// Without NLS the server's c.h defines these as macros.
#undef gettext
#undef dgettext
#undef ngettext
#undef dngettext
