#include "pg/identity.hpp"

#include <optional>
#include <string>
#include <vector>

#include "pg/claims.hpp"
#include "pg/compat.hpp"
#include "pg/settings.hpp"
#include "pg/sha256.hpp"
#include "pg/space.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
}

namespace cache_ext::pg {

namespace detail {
constinit std::uint32_t identity_generation = 0;
}

namespace {

constexpr char kClaimsSetting[] = "request.jwt.claims";

/// A setting whose value takes part in the scope, and that value when the caller was determined.
struct Watched {
    std::string name;
    SettingRef setting;
    std::string seen;

    // The reference points into the name: a Watched stays where it was made.
    explicit Watched(const char* setting_name) : name(setting_name), setting(name.c_str()) {}
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;

    /// The value; unset and empty are the same.
    const char* value() noexcept {
        const char* text = setting.value();
        return text != nullptr ? text : "";
    }
    bool changed() noexcept { return std::strcmp(value(), seen.c_str()) != 0; }
};

/// The last caller and what it was determined from. Made once and never freed, so that an ERROR on the way leaks
/// nothing.
struct Memo {
    Caller caller{};
    std::optional<std::uint32_t> generation;
    Oid role = InvalidOid;

    Watched claims{kClaimsSetting};
    std::vector<std::unique_ptr<Watched>> settings;
    ClaimsFilter filter;
    std::optional<std::uint32_t> configured;  // the generation for which settings and filter were made

    CanonicalClaims canonical;
    std::string text;  // what is hashed

    // Of a shared caller.
    std::optional<std::uint32_t> personal_generation;
    Oid personal_role = InvalidOid;
    std::uint64_t personal[2] = {};

    // Of the effective role.
    std::optional<std::uint32_t> writer_generation;
    Oid writer_role = InvalidOid;
    bool is_writer = false;
};

constinit Memo* memo = nullptr;

Memo& the_memo() {
    if (memo == nullptr) [[unlikely]] {
        memo = new Memo;
    }
    return *memo;
}

/// Whether entries of `role` are shared. Catalog access; no C++ objects here or above that need a destructor.
bool is_shared_role(Oid role, const Space& space) {
    if (superuser_arg(role) || has_bypassrls_privilege(role) ||
        has_privs_of_role(role, space.extension_owner)) {
        return true;
    }
    if (settings::shared_writers == nullptr || settings::shared_writers[0] == '\0') {
        return false;
    }
    const Oid writers = get_role_oid(settings::shared_writers, true);
    return OidIsValid(writers) && has_privs_of_role(role, writers);
}

/// Parses a list that its check hook has accepted; the items are in the current memory context.
List* split_list(const char* value) {
    List* items = NIL;
    if (value == nullptr || !SplitGUCList(pstrdup(value), ',', &items)) {
        return NIL;
    }
    return items;
}

/// Takes over the settings that say what makes a scope.
void configure(Memo& m, std::uint32_t generation) {
    List* const claims = split_list(settings::scope_claims);
    List* const names = split_list(settings::scope_settings);
    m.configured.reset();
    m.filter.all = list_length(claims) == 1 && std::strcmp(static_cast<char*>(linitial(claims)), "*") == 0;
    m.filter.names.clear();
    for (int i = 0; i < list_length(claims); ++i) {
        m.filter.names.emplace_back(static_cast<const char*>(list_nth(claims, i)));
    }
    m.settings.clear();
    for (int i = 0; i < list_length(names); ++i) {
        m.settings.push_back(std::make_unique<Watched>(static_cast<const char*>(list_nth(names, i))));
    }
    m.configured = generation;
}

void append_bytes(std::string& text, const void* bytes, std::size_t length) {
    text.append(static_cast<const char*>(bytes), length);
}

/// Length and content, so that no two sequences of fields look alike.
void append_field(std::string& text, std::string_view field) {
    const std::uint64_t length = field.size();
    append_bytes(text, &length, sizeof(length));
    text += field;
}

void begin_text(Memo& m, std::string_view purpose, const Space& space) {
    m.text.clear();
    append_field(m.text, purpose);
    append_bytes(m.text, space.id, sizeof(space.id));
}

void hash_text(const Memo& m, std::uint64_t (&id)[2]) {
    sha256_128(m.text.data(), m.text.size()).to_words(id);
}

/// The claims in canonical form into m.canonical. False: they are no JSON object.
bool canonicalise_claims(Memo& m) {
    const std::string_view json =
        m.claims.seen.empty() ? std::string_view{"{}"} : std::string_view{m.claims.seen};
    auto claims = canonical_claims(json, m.filter, GetDatabaseEncoding() == PG_UTF8);
    if (!claims) {
        return false;
    }
    m.canonical = std::move(*claims);
    return true;
}

/// Hashes a role, its claims as `claims` has them, and its settings.
void hash_person(Memo& m, std::string_view purpose, Oid role, std::string_view claims, const Space& space,
                 std::uint64_t (&id)[2]) {
    begin_text(m, purpose, space);
    append_bytes(m.text, &role, sizeof(role));
    append_field(m.text, claims);
    for (const auto& setting : m.settings) {
        append_field(m.text, setting->name);
        append_field(m.text, setting->seen);
    }
    hash_text(m, id);
}

/// Notes the claims and settings as they are now, and so forgets what was made from others.
void note_context(Memo& m, std::uint32_t generation) {
    m.personal_generation.reset();
    if (m.configured != generation) {
        configure(m, generation);
    }
    m.claims.seen = m.claims.value();
    for (const auto& setting : m.settings) {
        setting->seen = setting->value();
    }
}

void determine_private_scope(Memo& m, Caller& caller, const Space& space) {
    hash_person(m, "scope", caller.role, m.canonical.scope, space, caller.scope);

    begin_text(m, "quota", space);
    append_bytes(m.text, &caller.role, sizeof(caller.role));
    append_field(m.text, m.canonical.subject);
    hash_text(m, caller.quota_owner);
}

const Caller& determine_caller(Memo& m, Oid role) {
    m.generation.reset();
    // First, since a look-up of the space makes callers forgotten.
    const Space space = current_space();
    const std::uint32_t generation = detail::identity_generation;

    Caller caller{};
    caller.role = role;
    if (!space.exists) {
        caller.bypass = true;
        m.caller = caller;
        m.role = role;
        // Not kept: whether an extension appears is not told to this module.
        return m.caller;
    }

    begin_text(m, "shared", space);
    hash_text(m, caller.shared_scope);
    caller.is_shared = is_shared_role(role, space);
    if (caller.is_shared) {
        std::copy(std::begin(caller.shared_scope), std::end(caller.shared_scope), caller.scope);
        std::copy(std::begin(caller.shared_scope), std::end(caller.shared_scope), caller.quota_owner);
    } else {
        note_context(m, generation);
        caller.bypass = !canonicalise_claims(m);
        if (!caller.bypass) {
            determine_private_scope(m, caller, space);
        }
    }
    m.caller = caller;
    m.role = role;
    m.generation = generation;
    return m.caller;
}

/// Whether the claims and settings that a private scope was made from have changed.
bool context_changed(Memo& m) noexcept {
    if (m.claims.changed()) {
        return true;
    }
    for (const auto& setting : m.settings) {
        if (setting->changed()) {
            return true;
        }
    }
    return false;
}

void forget_roles(Datum /*argument*/, int /*cache*/, uint32 /*hash*/) noexcept { forget_caller(); }

}  // namespace

const Caller& caller() {
    Memo& m = the_memo();
    const Oid role = GetOuterUserId();
    if (m.generation == detail::identity_generation && m.role == role &&
        (m.caller.is_shared || !context_changed(m))) [[likely]] {
        return m.caller;
    }
    return determine_caller(m, role);
}

void personal_id(std::uint64_t (&id)[2]) {
    Memo& m = the_memo();
    const Caller& who = caller();
    if (!who.is_shared) {
        std::copy(std::begin(who.scope), std::end(who.scope), id);
        return;
    }
    if (m.personal_generation != detail::identity_generation || m.personal_role != who.role ||
        context_changed(m)) {
        const Space space = current_space();
        const std::uint32_t generation = detail::identity_generation;
        note_context(m, generation);
        // As they are written: whoever is above claims may have set anything.
        hash_person(m, "person", who.role, m.claims.seen, space, m.personal);
        m.personal_role = who.role;
        m.personal_generation = generation;
    }
    std::copy(std::begin(m.personal), std::end(m.personal), id);
}

bool effective_is_shared_writer() {
    Memo& m = the_memo();
    const Oid role = GetUserId();
    if (m.writer_generation == detail::identity_generation && m.writer_role == role) [[likely]] {
        return m.is_writer;
    }
    m.writer_generation.reset();
    const Space& space = current_space();
    const std::uint32_t generation = detail::identity_generation;
    if (!space.exists) {
        return false;
    }
    m.is_writer = is_shared_role(role, space);
    m.writer_role = role;
    m.writer_generation = generation;
    return m.is_writer;
}

void init_identity() {
    // Attributes and names of roles, memberships, and the owner of the database, who is a member of pg_database_owner.
    CacheRegisterSyscacheCallback(AUTHOID, forget_roles, Datum{0});
    CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, forget_roles, Datum{0});
    CacheRegisterSyscacheCallback(DATABASEOID, forget_roles, Datum{0});
}

}  // namespace cache_ext::pg
