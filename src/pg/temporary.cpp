#include "pg/temporary.hpp"

#include "pg/prelude.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
}

namespace cache_ext::pg {

namespace {

/// How many relations and types this session has made or altered, plus one. Of which schema they are is not asked: only sessions that have temporary ones mind.
constinit std::uint64_t changes = 1;
constinit object_access_hook_type previous_access = nullptr;

void access_object(ObjectAccessType access, Oid catalog, Oid object, int part, void* argument) {
    if ((access == OAT_POST_CREATE || access == OAT_POST_ALTER) &&
        (catalog == RelationRelationId || catalog == TypeRelationId))
        ++changes;
    if (previous_access != nullptr) previous_access(access, catalog, object, part, argument);
}

}  // namespace

std::uint64_t temporary_number() noexcept {
    Oid schema = InvalidOid;
    Oid toast_schema = InvalidOid;
    GetTempNamespaceState(&schema, &toast_schema);
    return OidIsValid(schema) ? changes : 0;
}

void init_temporary() {
    previous_access = object_access_hook;
    object_access_hook = access_object;
}

}  // namespace cache_ext::pg
